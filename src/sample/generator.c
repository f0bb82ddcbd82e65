#include "sample/generator.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "nn/nn.h"
#include "sampler_step.h"
#include "to_u8.h"
#include "sample/memory_fit.h"

#include <math.h>
#include <string.h>

struct generator {
    model *m; /* borrowed */
    generator_spec spec;
    schedule *schedule;
    sampler_table *table;
    plan *first, *p, *last; /* initial x; one sampling step; conversion of images to bytes */
    tensor *x, *t, *ids, *labels, *rows, *state, *bytes, *image, *mask, *x0;
    network_outputs net;
    generator_tick *tick;
    void *tick_context;
    generator_frame *frame;
    void *frame_context;
    int moments;
    int64_t *all_ids, *all_labels; /* [2 batch] */
    float *host;                   /* [batch, h, w, c]; NULL if the host may access the backend's memory */
    float *frames;                 /* [2, batch, h, w, c], if watched */
    float *padded;                 /* [batch, h, w, c], if there are images: those of a smaller batch */
};

static ddpm_status finish(const generator *g, plan *p, err *e)
{
    return g->spec.sketch ? plan_sketch(p, e) : plan_finish(p, e);
}

static bool is_guided(const generator_spec *s) { return s->guidance.scale != 0 && s->guidance.scale != 1; }

static tensor *input_images(generator *g, const char *name)
{
    const generator_spec *s = &g->spec;
    return plan_input(g->p, DTYPE_F32, name, s->batch, s->h, s->w, g->m->net.unet.in_channels);
}

static int steps_of(const generator_spec *s)
{
    return s->sampler.steps ? s->sampler.steps : s->scheduler.num_train_timesteps;
}

void generator_spec_start(generator_spec *s, double strength)
{
    const int steps = steps_of(s);
    const int taken = (int)(steps * strength);
    s->start = GENERATOR_FROM_IMAGE;
    s->sampler.skip = steps - (taken < steps ? taken : steps);
}

/* The step's operands that only some samplers and tasks have. */
static void add_optional(generator *g, nn_sampler_args *a)
{
    const generator_spec *s = &g->spec;
    for (int j = 0; j < g->table->slots; j++) a->h[j] = input_images(g, "history");
    if (s->start != GENERATOR_FROM_NOISE || s->masked) g->image = input_images(g, "image");
    if (s->masked) g->mask = plan_input(g->p, DTYPE_U8, "mask", 1, s->h, s->w, 1);
    if (s->watched) g->x0 = input_images(g, "x0");
    a->x0 = g->x0, a->image = g->image, a->mask = g->mask;
    /* a threshold held in [1, 1] is the row's clip */
    a->quantile =
        s->scheduler.thresholding && s->scheduler.sample_max_value > 1 ? s->scheduler.dynamic_thresholding_ratio : 0;
    a->rescale = s->guidance.rescale;
}

/* With guidance the batch is twice as large: the second half repeats x, without the class. */
static ddpm_status build(generator *g, err *e)
{
    const generator_spec *s = &g->spec;
    const bool guided = is_guided(s);
    const int c = g->m->net.unet.in_channels, n = guided ? 2 * s->batch : s->batch;
    TRY(plan_create(g->m->be, &g->p, e));
    plan *p = g->p;
    g->x = plan_input(p, DTYPE_F32, "x", n, s->h, s->w, c);
    g->t = plan_input(p, DTYPE_F32, "t", n, 1, 1, 1);
    g->ids = plan_input(p, DTYPE_I64, "ids", n, 1, 1, 1);
    if (unet_config_classes(&g->m->net.unet)) g->labels = plan_input(p, DTYPE_I64, "labels", n, 1, 1, 1);
    g->rows = plan_input(p, DTYPE_U8, "rows", 1, 1, 1, (int64_t)sizeof(sampler_row) * g->table->n);
    g->state = plan_input(p, DTYPE_U8, "state", 1, 1, 1, sizeof(sampler_state));
    nn_sampler_next(p, g->rows, g->state, g->t);
    g->net = network_build(&g->m->net, p, &(network_inputs){.x = g->x, .t = g->t, .labels = g->labels});
    if (g->net.y) plan_keep(p, g->net.y); /* check_finite() reads it after each group of steps */
    nn_sampler_args update = {
        .x = g->x, .model = g->net.y, .rows = g->rows, .state = g->state, .ids = g->ids, .guided = guided};
    add_optional(g, &update);
    nn_sampler_step(p, &update);
    return finish(g, p, e);
}

/* Runs once per batch, where the plan of a sampling step runs once per row. */
static ddpm_status build_first(generator *g, err *e)
{
    const sampler_table *t = g->table;
    nn_sampler_init_args a = {.x = g->x, .state = g->state, .ids = g->ids};
    switch (g->spec.start) {
    case GENERATOR_FROM_NOISE: a.noise = (float)t->init; break;
    case GENERATOR_FROM_IMAGE: a.image = g->image, a.signal = (float)t->signal, a.noise = (float)t->noise; break;
    case GENERATOR_FROM_X: a.image = g->image, a.signal = 1; break;
    }
    TRY(plan_create(g->m->be, &g->first, e));
    nn_sampler_init(g->first, &a);
    return finish(g, g->first, e);
}

static ddpm_status build_last(generator *g, err *e)
{
    TRY(plan_create(g->m->be, &g->last, e));
    g->bytes = plan_input(g->last, DTYPE_U8, "bytes", g->x->n, g->x->h, g->x->w, g->x->c);
    nn_to_u8(g->last, g->x, g->bytes);
    return finish(g, g->last, e);
}

static size_t values_of(const generator *g, int n) { return (size_t)n * (size_t)(tensor_hw(g->x) * g->x->c); }

static ddpm_status take_host_memory(generator *g, err *e)
{
    const size_t batch = (size_t)g->spec.batch, values = values_of(g, g->spec.batch);
    TRY(mem_array(&g->all_ids, 2 * batch, sizeof *g->all_ids, "generator", e));
    TRY(mem_array(&g->all_labels, 2 * batch, sizeof *g->all_labels, "generator", e));
    if (g->spec.watched) TRY(mem_array(&g->frames, 2 * values, sizeof *g->frames, "generator", e));
    if (g->image) TRY(mem_array(&g->padded, values, sizeof *g->padded, "generator", e));
    if (g->m->be->fn->host_memory) return DDPM_OK;
    return mem_array(&g->host, values * (is_guided(&g->spec) ? 2 : 1) * (g->net.y->c > g->x->c ? 2 : 1),
                     sizeof *g->host, "generator", e);
}

static ddpm_status check_sketch(model *m, generator_spec spec, err *e);

static ddpm_status check_spec(const model *m, const generator_spec *s, err *e)
{
    const unet_config *u = &m->net.unet;
    const sampler_info *info = sampler_info_of(s->sampler.kind);
    const int steps = steps_of(s);
    const bool learned =
        s->scheduler.variance_type == SCHEDULER_LEARNED || s->scheduler.variance_type == SCHEDULER_LEARNED_RANGE;
    if (u->out_channels != u->in_channels && u->out_channels != 2 * u->in_channels)
        return err_set(e, DDPM_EINVAL,
                       "the network has %d output channels, but the images have %d; only %d, or %d with a learned "
                       "variance, can be sampled",
                       u->out_channels, u->in_channels, u->in_channels, 2 * u->in_channels);
    if (learned && info->reads & SAMPLER_READS_VARIANCE && u->out_channels != 2 * u->in_channels)
        return err_set(e, DDPM_EINVAL,
                       "variance_type %s needs a network with %d output channels, but this one has %d; set "
                       "sample.variance_type=fixed_small",
                       scheduler_variance_name(s->scheduler.variance_type), 2 * u->in_channels, u->out_channels);
    if (info->from_images && s->start != GENERATOR_FROM_X)
        return err_set(e, DDPM_EINVAL, "%s leads from images to noise; give from=, the images", info->name);
    if (is_guided(s) && unet_config_classes(u) == 0)
        return err_set(e, DDPM_EINVAL,
                       "guidance %g needs a network with classes, and this one has none; set guidance=1",
                       s->guidance.scale);
    if (is_guided(s) && s->guidance.null_class < 0 && m->classes.says_null)
        return err_set(e, DDPM_EINVAL, "guidance %g: this network was only trained with classes; set guidance=1",
                       s->guidance.scale);
    if (is_guided(s) && s->guidance.null_class >= unet_config_classes(u))
        return err_set(e, DDPM_EINVAL, "null_class %d is not below num_class_embeds = %d", s->guidance.null_class,
                       unet_config_classes(u));
    if (s->start == GENERATOR_FROM_IMAGE && s->sampler.skip >= steps)
        return err_set(e, DDPM_EINVAL, "strength: so small that none of the %d steps is left; raise it", steps);
    if (s->scheduler.thresholding && s->scheduler.sample_max_value < 1)
        return err_set(e, DDPM_EINVAL, "sample_max_value %g is below 1, the least threshold",
                       s->scheduler.sample_max_value);
    return DDPM_OK;
}

/* A row is guided if the x that the network sees has a level in (low, high]. */
static void set_guidance(generator *g)
{
    const generator_guidance *guide = &g->spec.guidance;
    double signal = g->table->signal, noise = g->table->noise;
    if (!is_guided(&g->spec)) return;
    for (int i = 0; i < g->table->n; i++) {
        sampler_row *r = &g->table->rows[i];
        const double sigma = signal > 0 ? noise / signal : INFINITY;
        const bool inside = (guide->high == 0 || sigma <= guide->high) && sigma > guide->low;
        r->guidance = inside ? (float)guide->scale : 1;
        signal = (double)r->signal, noise = (double)r->noise;
    }
}

static ddpm_status create_table(generator *g, err *e)
{
    const generator_spec *s = &g->spec;
    TRY(sampler_accepts(s->sampler.kind, &g->m->scheduler, e));
    TRY(schedule_create(&s->scheduler, &g->schedule, e));
    TRY(sampler_create(g->schedule, &s->sampler, &g->table, e));
    if (s->masked && s->jump_n_sample > 1) TRY(sampler_resample(&g->table, s->jump_length, s->jump_n_sample, e));
    set_guidance(g);
    return DDPM_OK;
}

ddpm_status generator_create(model *m, const generator_spec *spec, generator **out, err *e)
{
    generator *g = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY(check_spec(m, spec, e));
    if (!spec->sketch) TRY(check_sketch(m, *spec, e));
    TRY_GOTO(mem_array(&g, 1, sizeof *g, "generator", e));
    g->m = m;
    g->spec = *spec;
    TRY_GOTO(create_table(g, e));
    TRY_GOTO(build(g, e));
    TRY_GOTO(build_first(g, e));
    TRY_GOTO(build_last(g, e));
    if (!spec->sketch) TRY_GOTO(take_host_memory(g, e));
    *out = g;
    g = NULL;
done:
    generator_destroy(g);
    return st;
}

void generator_destroy(generator *g)
{
    if (!g) return;
    plan_destroy(g->first);
    plan_destroy(g->last);
    plan_destroy(g->p);
    sampler_destroy(g->table);
    schedule_destroy(g->schedule);
    mem_free(g->all_ids);
    mem_free(g->all_labels);
    mem_free(g->frames);
    mem_free(g->padded);
    mem_free(g->host);
    mem_free(g);
}

int generator_steps(const generator *g) { return g->table->n; }
size_t generator_bytes(const generator *g)
{
    return g->p->bytes[ARENA_ACT] + g->p->bytes[ARENA_IO] + g->last->bytes[ARENA_IO];
}
double generator_flops(const generator *g) { return plan_flops(g->p, 0, g->p->n_step) / g->spec.batch; }
const plan *generator_plan(const generator *g) { return g->p; }
const plan *generator_first_plan(const generator *g) { return g->first; }
const sampler_table *generator_table(const generator *g) { return g->table; }
const char *generator_advice(const generator *g) { return sampler_advice(g->schedule, &g->spec.sampler); }

void generator_watch(generator *g, generator_tick *tick, void *context)
{
    g->tick = tick;
    g->tick_context = context;
}

void generator_film(generator *g, int moments, generator_frame *frame, void *context)
{
    g->moments = moments;
    g->frame = frame;
    g->frame_context = context;
}

size_t generator_bytes_left(const generator *g)
{
    const params *store = g->m->store;
    const size_t weights = store->arena[g->spec.weights] ? 0 : store->count * sizeof(float);
    return generator_bytes(g) + params_copy_bytes_left(store, g->spec.weights) + weights;
}

typedef struct sampling {
    model *m;
    generator_spec spec;
    memory_fit_workspaces work;
} sampling;

static ddpm_status sketch(model *m, generator_spec spec, size_t *bytes, err *e)
{
    generator *g = NULL;
    spec.sketch = true;
    TRY(generator_create(m, &spec, &g, e));
    *bytes = generator_bytes_left(g);
    generator_destroy(g);
    return DDPM_OK;
}

static size_t bytes_with(void *context, int batch)
{
    sampling *s = context;
    size_t bytes;
    err ignored = {0};
    s->spec.batch = batch;
    if (sketch(s->m, s->spec, &bytes, &ignored) != DDPM_OK) return 0;
    return bytes + memory_fit_workspace_bytes(s->work, batch);
}

static ddpm_status refuse(sampling s, size_t need, size_t there, err *e)
{
    char needed[BYTES_CAP], free_now[BYTES_CAP];
    const int batch = s.spec.batch;
    (void)bytes_text(needed, need);
    (void)bytes_text(free_now, there);
    const int fits = memory_fit_batch(
        &(memory_fit_question){.batch = batch, .need = need, .there = there, .needs = bytes_with, .context = &s});
    if (fits > 0)
        return err_set(e, DDPM_ENOMEM, "sample.batch=%d: sampling needs %s, but %s are free: sample.batch=%d fits",
                       batch, needed, free_now, fits);
    return err_set(e, DDPM_ENOMEM, "sample.batch: sampling needs %s, but %s are free: not even a batch of 1 fits",
                   needed, free_now);
}

/* Check the memory by a sketch, before any step is prepared. */
static ddpm_status check_sketch(model *m, generator_spec spec, err *e)
{
    const size_t there = m->be->fn->memory_free(m->be);
    size_t need;
    if (there == 0) return DDPM_OK;
    TRY(sketch(m, spec, &need, e));
    if (need <= there) return DDPM_OK;
    const memory_fit_workspaces work = memory_fit_guess(m, need, spec.batch);
    return refuse((sampling){m, spec, work}, need + memory_fit_workspace_bytes(work, spec.batch), there, e);
}

static ddpm_status check_memory(generator *g, err *e)
{
    const size_t there = g->m->be->fn->memory_free(g->m->be), need = generator_bytes_left(g);
    size_t least;
    if (there == 0 || need <= there) return DDPM_OK;
    TRY(sketch(g->m, g->spec, &least, e));
    return refuse((sampling){g->m, g->spec, {.fixed = need > least ? need - least : 0}}, need, there, e);
}

ddpm_status generator_allocate(generator *g, err *e)
{
    TRY(check_memory(g, e));
    TRY(plan_allocate(g->p, e));
    TRY(plan_allocate(g->first, e));
    TRY(plan_allocate(g->last, e));
    TRY(params_bind(g->m->store, g->p, g->spec.weights, e));
    TRY(network_fill(&g->m->net, g->p, &g->net, e));
    return plan_write(g->p, g->rows, g->table->rows, e);
}

ddpm_status generator_set_mask(generator *g, const uint8_t *mask, err *e) { return plan_write(g->p, g->mask, mask, e); }

/* Batch entries from n on repeat the last image: the plan's batch is fixed, and images do not depend on one another. */
static ddpm_status write_images(generator *g, const generator_batch *b, err *e)
{
    const size_t d = values_of(g, 1);
    if (!g->image) return DDPM_OK;
    if (b->n == g->spec.batch) return plan_write(g->p, g->image, b->images, e);
    for (int i = 0; i < g->spec.batch; i++)
        memcpy(g->padded + (size_t)i * d, b->images + (size_t)(i < b->n ? i : b->n - 1) * d, d * sizeof *g->padded);
    return plan_write(g->p, g->image, g->padded, e);
}

static ddpm_status write_labels(generator *g, const generator_batch *b, err *e)
{
    const int batch = g->spec.batch, classes = unet_config_classes(&g->m->net.unet);
    const int none = is_guided(&g->spec) ? g->spec.guidance.null_class : -1;
    if (!g->labels) return DDPM_OK;
    for (int i = 0; i < batch; i++) {
        const int label = b->labels ? b->labels[i < b->n ? i : b->n - 1] : none;
        if (label < -1 || label >= classes)
            return err_set(e, DDPM_EINVAL, "label %d is not in [0, %d), the classes of the network", label, classes);
        g->all_labels[i] = label;
        g->all_labels[batch + i] = g->spec.guidance.null_class;
    }
    return plan_write(g->p, g->labels, g->all_labels, e);
}

static ddpm_status start(generator *g, const generator_batch *b, err *e)
{
    const int batch = g->spec.batch;
    const sampler_state state = {.seed = g->spec.seed, .row = -1};
    for (int i = 0; i < 2 * batch; i++) g->all_ids[i] = b->ids[i % batch < b->n ? i % batch : b->n - 1];
    TRY(plan_write(g->p, g->ids, g->all_ids, e));
    TRY(write_labels(g, b, e));
    TRY(write_images(g, b, e));
    TRY(plan_write(g->p, g->state, &state, e));
    return plan_run(g->first, e);
}

/* The row before which the loop is interrupted for frame `moment`: the last one is the end. */
static int frame_row(const generator *g, int moment)
{
    return (int)(((int64_t)g->table->n * (moment + 1) + g->moments - 1) / g->moments);
}

/* Steps until the next look.  Without a tick function and frames a GPU gets all steps at once. */
static int group_of(const generator *g, int done, int moment)
{
    enum { WATCHED = 20 };
    int group = g->table->n - done;
    if (g->tick && group > WATCHED) group = WATCHED;
    if (g->m->be->fn->host_memory) group = 1;
    if (g->frame && group > frame_row(g, moment) - done) group = frame_row(g, moment) - done;
    return group;
}

ddpm_status generator_begin(generator *g, const generator_batch *b, err *e)
{
    if (b->n < 1 || b->n > g->spec.batch)
        return err_set(e, DDPM_EINVAL, "a batch of %d images; the generator was created for 1 to %d", b->n,
                       g->spec.batch);
    if (g->image && !b->images)
        return err_set(e, DDPM_EINVAL, "the generator was created to start from images, and none are given");
    TRY(params_refresh(g->m->store, g->spec.weights, e));
    return start(g, b, e);
}

/* Tests the exponent bits as integers, which vectorizes: negligible beside a network evaluation. */
static bool value_is_finite(const void *values, dtype type, int64_t count)
{
    const char *at = values;
    unsigned bad = 0;
    if (type == DTYPE_BF16) {
        for (int64_t i = 0; i < count; i++) {
            uint16_t bits;
            memcpy(&bits, at + i * (int64_t)sizeof bits, sizeof bits);
            bad |= (bits & 0x7f80) == 0x7f80;
        }
        return !bad;
    }
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, at + i * (int64_t)sizeof bits, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

/* *image becomes the index of the first of n images of t with an infinity or NaN; n: there is none. */
static ddpm_status find_not_finite(generator *g, const tensor *t, int n, int *image, err *e)
{
    const int64_t d = tensor_count(t) / t->n;
    const size_t row = (size_t)d * dtype_size(t->dtype);
    const char *values = t->data;
    if (!g->m->be->fn->host_memory) {
        TRY(g->m->be->fn->download(g->m->be, g->host, t->data, (size_t)n * row, e));
        values = (const char *)g->host;
    }
    for (*image = 0; *image < n && value_is_finite(values + (size_t)*image * row, t->dtype, d);) ++*image;
    return DDPM_OK;
}

/* NaN would become a black image, infinity a clipped one: report an error instead. */
static ddpm_status check_finite(generator *g, const generator_batch *b, int done, err *e)
{
    const int n = b->n, all = is_guided(&g->spec) ? g->spec.batch + n : n;
    static const char advice[] = "the weights are damaged or have diverged; sample from an earlier checkpoint";
    int image;
    TRY(find_not_finite(g, g->net.y, all, &image, e));
    if (image < all)
        return err_set(e, DDPM_EDIVERGED, "picture %lld: the network's output at step %d of %d is not finite: %s",
                       (long long)g->all_ids[image], done, g->table->n, advice);
    TRY(find_not_finite(g, g->x, n, &image, e));
    if (image == n) return DDPM_OK;
    return err_set(e, DDPM_EDIVERGED, "picture %lld is not finite after step %d of %d: %s", (long long)b->ids[image],
                   done, g->table->n, advice);
}

static ddpm_status show_frame(generator *g, int moment, int n, err *e)
{
    const size_t values = values_of(g, n);
    float *x = g->frames, *x0 = g->frames + values;
    TRY(g->m->be->fn->download(g->m->be, x, g->x->data, values * sizeof *x, e));
    TRY(g->m->be->fn->download(g->m->be, x0, g->x0->data, values * sizeof *x0, e));
    return g->frame(g->frame_context, moment, n, x, x0, e);
}

static ddpm_status run_loop(generator *g, const generator_batch *b, err *e)
{
    int moment = 0;
    TRY(generator_begin(g, b, e));
    for (int i = 0; i < g->table->n;) {
        const int times = group_of(g, i, moment);
        TRY(plan_run_times(g->p, times, e));
        i += times;
        TRY(check_finite(g, b, i, e));
        for (; g->frame && moment < g->moments && frame_row(g, moment) == i; moment++)
            TRY(show_frame(g, moment, b->n, e));
        if (g->tick && g->tick(g->tick_context, i, g->table->n))
            return err_set(e, DDPM_ESAVED, "sampling was stopped at step %d of %d", i, g->table->n);
    }
    return DDPM_OK;
}

ddpm_status generator_run(generator *g, const generator_batch *b, float *x, err *e)
{
    TRY(run_loop(g, b, e));
    return g->m->be->fn->download(g->m->be, x, g->x->data, values_of(g, b->n) * sizeof *x, e);
}

ddpm_status generator_run_bytes(generator *g, const generator_batch *b, uint8_t *bytes, err *e)
{
    TRY(run_loop(g, b, e));
    TRY(plan_run(g->last, e));
    return g->m->be->fn->download(g->m->be, bytes, g->bytes->data, values_of(g, b->n), e);
}

void generator_to_bytes(const float *x, int64_t count, uint8_t *bytes)
{
    for (int64_t i = 0; i < count; i++) bytes[i] = to_u8(x[i]);
}
