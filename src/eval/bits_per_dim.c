#include "eval/bits_per_dim.h"
#include "base/mem.h"
#include "diffusion/objective.h"
#include "nn/nn.h"
#include "noise.h"

#include <math.h>
#include <string.h>

struct bits_per_dim {
    model *m; /* borrowed */
    bits_spec spec;
    schedule *schedule;
    int h, w, steps;
    int *t;       /* [steps], rising */
    float *table; /* [steps, TABLE_COLUMNS] */
    plan *p;
    tensor *images, *index, *rows, *state, *time, *labels; /* labels: NULL without classes */
    nn_bounds out;
    network_outputs net;
    int window; /* images in memory */
    /* host copies of the batch's inputs and results */
    uint8_t *pixels;
    int64_t *label, *all_index, *all_labels;
    float *all_rows, *all_time, *vb, *x0_error;
};

/* ---- the chain ---- */

static ddpm_status check_model(const model *m, const bits_spec *s, err *e)
{
    const int in = m->net.unet.in_channels, out = m->net.unet.out_channels;
    const bool learned = s->variance == SCHEDULER_LEARNED_RANGE;
    if (process_of(&m->scheduler) != PROCESS_BETAS)
        return err_set(e, DDPM_EINVAL,
                       "%s: bits per dimension are defined for processes with betas alone, such as DDPM's; this model "
                       "has another",
                       scheduler_class_name(m->scheduler.type));
    if (s->variance == SCHEDULER_LEARNED)
        return err_set(e, DDPM_EINVAL,
                       "variance_type learned: only fixed_small, fixed_large and learned_range can be "
                       "evaluated; set eval.variance_type=fixed_large");
    if (learned ? out != 2 * in : out != in && out != 2 * in)
        return err_set(e, DDPM_EINVAL, "the network has %d output channels; with variance_type %s it must have %d", out,
                       scheduler_variance_name(s->variance), learned ? 2 * in : in);
    if (unet_config_conditional(&m->net.unet) && m->net.unet.class_embed_type == UNET_CLASS_IDENTITY)
        return err_set(e, DDPM_EINVAL, "class_embed_type identity: images have labels, but no vectors for the network");
    return DDPM_OK;
}

/* A step of fixed variance to the image has the variance of the step before, as in improved-diffusion. */
static void fill_row(const bits_per_dim *b, int k)
{
    const schedule *s = b->schedule;
    const training_level l = training_level_at(s, b->t[k]);
    float *row = b->table + (size_t)k * TABLE_COLUMNS;
    reverse_variance v = reverse_variance_at(s, b->t[k], k > 0 ? b->t[k - 1] : -1, k + 1 < b->steps ? b->t[k + 1] : -1);
    if (v.decoder && b->spec.variance != SCHEDULER_LEARNED_RANGE) v.log_span = 0;
    row[TABLE_SIGNAL] = (float)l.signal;
    row[TABLE_NOISE] = (float)l.noise;
    row[TABLE_TARGET_X0] = (float)l.of_x0;
    row[TABLE_TARGET_EPS] = (float)l.of_eps;
    row[TABLE_TIME] = (float)l.time;
    objective_fill_variance(&v, l.c_out, row);
}

static ddpm_status fill_table(bits_per_dim *b, err *e)
{
    scheduler_config c = b->m->scheduler;
    c.timestep_spacing = SCHEDULER_LINSPACE;
    TRY(schedule_create(&c, &b->schedule, e));
    b->steps = b->spec.steps ? b->spec.steps : b->schedule->timesteps;
    TRY(mem_array(&b->t, (size_t)b->steps, sizeof *b->t, "timesteps", e));
    TRY(mem_array(&b->table, (size_t)b->steps * TABLE_COLUMNS, sizeof *b->table, "table", e));
    TRY(schedule_respace(b->schedule, b->steps, b->t, e));
    for (int k = 0; k < b->steps / 2; k++) {
        const int other = b->t[k];
        b->t[k] = b->t[b->steps - 1 - k], b->t[b->steps - 1 - k] = other;
    }
    for (int k = 0; k < b->steps; k++) fill_row(b, k);
    return DDPM_OK;
}

/* ---- the plan ---- */

static ddpm_status build(bits_per_dim *b, err *e)
{
    const int n = b->spec.batch, c = b->m->net.unet.in_channels;
    TRY(plan_create(b->m->be, &b->p, e));
    plan *p = b->p;
    b->images = plan_input(p, DTYPE_U8, "images", b->window, b->h, b->w, c);
    b->index = plan_input(p, DTYPE_I64, "index", n, 1, 1, 1);
    b->rows = plan_input(p, DTYPE_F32, "rows", n, 1, 1, TABLE_COLUMNS);
    b->time = plan_input(p, DTYPE_F32, "t", n, 1, 1, 1);
    b->state = plan_input(p, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
    if (unet_config_classes(&b->m->net.unet)) b->labels = plan_input(p, DTYPE_I64, "labels", n, 1, 1, 1);
    const nn_q_sample_args noising = {
        .images = b->images, .index = b->index, .rows = b->rows, .state = b->state, .stream = NOISE_EVAL};
    const network_inputs in = {.x = nn_q_sample(p, &noising), .t = b->time, .labels = b->labels};
    b->net = network_build(&b->m->net, p, &in);
    b->out = nn_bound(p, &(nn_bound_args){.pred = b->net.y,
                                          .images = b->images,
                                          .index = b->index,
                                          .rows = b->rows,
                                          .state = b->state,
                                          .stream = NOISE_EVAL,
                                          .fixed = b->spec.variance != SCHEDULER_LEARNED_RANGE,
                                          .v = b->spec.variance == SCHEDULER_FIXED_LARGE ? 1 : -1,
                                          .clip = b->spec.clip ? 1 : 0});
    TRY(plan_fits(p, e));
    TRY(plan_finish(p, e));
    TRY(plan_allocate(p, e));
    TRY(params_bind(b->m->store, p, ARENA_PARAM, e));
    TRY(params_refresh(b->m->store, ARENA_PARAM, e));
    return network_fill(&b->m->net, p, &b->net, e);
}

static size_t values_of(const bits_per_dim *b)
{
    return (size_t)b->h * (size_t)b->w * (size_t)b->m->net.unet.in_channels;
}

static ddpm_status take_memory(bits_per_dim *b, err *e)
{
    const size_t n = (size_t)b->spec.batch, window = (size_t)b->window;
    TRY(mem_array(&b->pixels, window * values_of(b), 1, "images", e));
    TRY(mem_array(&b->label, window, sizeof *b->label, "labels", e));
    TRY(mem_array(&b->all_index, n, sizeof *b->all_index, "batch", e));
    TRY(mem_array(&b->all_labels, n, sizeof *b->all_labels, "batch", e));
    TRY(mem_array(&b->all_rows, n * TABLE_COLUMNS, sizeof *b->all_rows, "batch", e));
    TRY(mem_array(&b->all_time, n, sizeof *b->all_time, "batch", e));
    TRY(mem_array(&b->vb, n, sizeof *b->vb, "batch", e));
    return mem_array(&b->x0_error, n, sizeof *b->x0_error, "batch", e);
}

ddpm_status bits_create(model *m, const bits_spec *spec, bits_per_dim **out, err *e)
{
    bits_per_dim *b = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY(check_model(m, spec, e));
    TRY_GOTO(mem_array(&b, 1, sizeof *b, "evaluation", e));
    b->m = m;
    b->spec = *spec;
    model_image_size(m, &b->h, &b->w);
    TRY_GOTO(fill_table(b, e));
    b->window = (spec->batch - 1) / b->steps + 2;
    TRY_GOTO(take_memory(b, e));
    TRY_GOTO(build(b, e));
    *out = b;
    b = NULL;
done:
    bits_destroy(b);
    return st;
}

void bits_destroy(bits_per_dim *b)
{
    if (!b) return;
    plan_destroy(b->p);
    schedule_destroy(b->schedule);
    void *const owned[] = {b->t,          b->table,    b->pixels,   b->label, b->all_index,
                           b->all_labels, b->all_rows, b->all_time, b->vb,    b->x0_error};
    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) mem_free(owned[i]);
    mem_free(b);
}

int bits_steps(const bits_per_dim *b) { return b->steps; }

/* ---- running ---- */

/* What is summed over the images, in their order and that of the steps. */
typedef struct sums {
    const bits_images *images;
    int64_t first;         /* image whose pixels are the first in memory */
    int64_t loaded;        /* images before this one were read */
    double image;          /* of the current image */
    double total, squares; /* of the totals, less that of image 0 */
    double start, prior;
    int64_t done;
} sums;

/* Reads the images of a batch that begins with image `first`; those in memory already are moved. */
static ddpm_status load(bits_per_dim *b, sums *s, int64_t first, int64_t last, err *e)
{
    const size_t one = values_of(b);
    const int64_t kept = s->loaded > first ? s->loaded - first : 0;
    if (kept > 0) {
        memmove(b->pixels, b->pixels + (size_t)(first - s->first) * one, (size_t)kept * one);
        memmove(b->label, b->label + (first - s->first), (size_t)kept * sizeof *b->label);
    }
    s->first = first;
    for (int64_t i = first + kept; i <= last; i++)
        TRY(s->images->read(s->images->context, i, b->pixels + (size_t)(i - first) * one, b->label + (i - first), e));
    s->loaded = last + 1;
    return DDPM_OK;
}

/* Evaluates n steps from number `at` of the list: step k of image i is number i steps + k. */
static ddpm_status run_batch(bits_per_dim *b, sums *s, int64_t at, int n, err *e)
{
    const int batch = b->spec.batch;
    const train_state state = {.seed = b->spec.seed, .sample = (uint64_t)at};
    const int64_t first = at / b->steps, last = (at + n - 1) / b->steps;
    TRY(load(b, s, first, last, e));
    for (int i = 0; i < batch; i++) { /* the last one is repeated to fill the batch */
        const int64_t position = at + (i < n ? i : n - 1), k = position % b->steps;
        b->all_index[i] = position / b->steps - first;
        b->all_labels[i] = b->label[b->all_index[i]];
        memcpy(b->all_rows + (size_t)i * TABLE_COLUMNS, b->table + (size_t)k * TABLE_COLUMNS,
               TABLE_COLUMNS * sizeof(float));
        b->all_time[i] = b->all_rows[(size_t)i * TABLE_COLUMNS + TABLE_TIME];
    }
    TRY(plan_write(b->p, b->images, b->pixels, e));
    TRY(plan_write(b->p, b->index, b->all_index, e));
    TRY(plan_write(b->p, b->rows, b->all_rows, e));
    TRY(plan_write(b->p, b->time, b->all_time, e));
    TRY(plan_write(b->p, b->state, &state, e));
    if (b->labels) TRY(plan_write(b->p, b->labels, b->all_labels, e));
    TRY(plan_run(b->p, e));
    TRY(plan_read(b->p, b->out.vb, b->vb, e));
    return plan_read(b->p, b->out.x0_error, b->x0_error, e);
}

/* KL(q(x_T | x_0) || N(0, I)) in bits per dimension, for a chain that begins at timestep t. */
static double prior_of(const bits_per_dim *b, const uint8_t *pixels)
{
    const double signal = b->schedule->abar[b->t[b->steps - 1]], noise = 1 - signal;
    const size_t n = values_of(b);
    double square = 0;
    for (size_t i = 0; i < n; i++) square += pow(pixels[i] / 127.5 - 1, 2);
    return (-1 - log(noise) + noise + signal * square / (double)n) / 2 / log(2);
}

static void end_image(bits_per_dim *b, sums *s, int64_t image)
{
    const double prior = prior_of(b, b->pixels + (size_t)(image - s->first) * values_of(b)), all = s->image + prior;
    if (image == 0) s->start = all;
    s->prior += prior;
    s->total += all - s->start;
    s->squares += (all - s->start) * (all - s->start);
    s->image = 0;
    s->done++;
}

static ddpm_status add(bits_per_dim *b, sums *s, bits_result *r, int64_t at, int n, err *e)
{
    for (int i = 0; i < n; i++) {
        const int64_t image = (at + i) / b->steps;
        const int k = (int)((at + i) % b->steps);
        if (!isfinite(b->vb[i]) || !isfinite(b->x0_error[i]))
            return err_set(e, DDPM_EDIVERGED,
                           "image %lld at timestep %d: the network's output is not finite: the weights are damaged or "
                           "have diverged",
                           (long long)image, b->t[k]);
        s->image += (double)b->vb[i];
        r->step[k].vb += (double)b->vb[i];
        r->step[k].x0_mse += (double)b->x0_error[i];
        if (k == b->steps - 1) end_image(b, s, image);
    }
    return DDPM_OK;
}

static void finish(const bits_per_dim *b, const sums *s, bits_result *r)
{
    const double n = (double)s->done, mean = s->total / n;
    r->images = s->done;
    r->total = s->start + mean;
    r->prior = s->prior / n;
    r->deviation = n > 1 ? sqrt(fmax(s->squares / n - mean * mean, 0) / (n - 1)) : NAN;
    for (int k = 0; k < b->steps; k++) {
        const double abar = b->schedule->abar[b->t[k]];
        r->step[k].t = b->t[k];
        r->step[k].vb /= n;
        r->step[k].x0_mse /= n;
        r->step[k].eps_mse = r->step[k].x0_mse * abar / (1 - abar);
    }
}

ddpm_status bits_run(bits_per_dim *b, const bits_images *images, bits_result *result, err *e)
{
    const int64_t all = images->count * b->steps;
    sums s = {.images = images};
    ddpm_status st = DDPM_OK;
    *result = (bits_result){.steps = b->steps};
    TRY(mem_array(&result->step, (size_t)b->steps, sizeof *result->step, "timesteps", e));
    for (int64_t at = 0; at < all; at += b->spec.batch) {
        const int n = all - at < b->spec.batch ? (int)(all - at) : b->spec.batch;
        TRY_GOTO(run_batch(b, &s, at, n, e));
        TRY_GOTO(add(b, &s, result, at, n, e));
        if (images->tick) images->tick(images->context, at + n, s.done);
    }
    finish(b, &s, result);
done:
    if (st != DDPM_OK) mem_free(result->step);
    if (st != DDPM_OK) result->step = NULL;
    return st;
}
