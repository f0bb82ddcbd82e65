/* Bits per dimension: the op against figures of improved-diffusion, a network against formulas written in Python
 * (make_bits_per_dim.py), and what a result does not depend on. */
#include "base/mem.h"
#include "diffusion/objective.h"
#include "eval/bits_per_dim.h"
#include "nn/nn.h"
#include "noise.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/ok.h"
#include "support/trajectory_net.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static err why; /* each test is a process of its own */

/* ---- the op: all timesteps of one picture of 8 values ---- */

enum { T = 1000, N = 8 };
static const uint8_t byte_of[N] = {0, 255, 128, 64, 200, 10, 77, 254};
static const float V[N] = {-1.2f, -.9f, -.5f, 0, .3f, .6f, 1, 1.4f};
static const uint64_t SEED = 5;

static float miss_of(int i)
{
    const double eps = ((7 * i + 3) % 11 - 5) / 3.0;
    return (float)(-.1 * eps + .05 * (i - 3.5));
}

typedef struct op_rig {
    backend *be;
    plan *p;
    tensor *pred, *images, *rows, *state, *index;
    nn_bounds out;
} op_rig;

static void build_op(op_rig *r, bool learned, float v, bool clip)
{
    r->be = test_backend(2);
    OK(plan_create(r->be, &r->p, &why));
    r->pred = plan_input(r->p, DTYPE_F32, "pred", T, 2, 4, learned ? 2 : 1);
    r->images = plan_input(r->p, DTYPE_U8, "images", 1, 2, 4, 1);
    r->rows = plan_input(r->p, DTYPE_F32, "rows", T, 1, 1, TABLE_COLUMNS);
    r->state = plan_input(r->p, DTYPE_U8, "state", 1, 1, 1, sizeof(train_state));
    r->index = plan_input(r->p, DTYPE_I64, "index", T, 1, 1, 1);
    r->out = nn_bound(r->p, &(nn_bound_args){.pred = r->pred,
                                             .images = r->images,
                                             .index = r->index,
                                             .rows = r->rows,
                                             .state = r->state,
                                             .stream = NOISE_EVAL,
                                             .fixed = !learned,
                                             .v = v,
                                             .clip = clip ? 1 : 0});
    OK(plan_finish(r->p, &why));
    OK(plan_allocate(r->p, &why));
}

/* The prediction misses eps by the same at every timestep. */
static void fill_op(const op_rig *r, bool learned)
{
    static float pred[T * N * 2], rows[T * TABLE_COLUMNS];
    static int64_t index[T];
    const scheduler_config c = scheduler_config_default();
    objective o = objective_default();
    schedule *s;
    OK(schedule_create(&c, &s, &why));
    o.learned = true;
    objective_fill_table(s, &o, rows);
    if (!learned) rows[TABLE_LOG_SPAN] = 0;
    for (int t = 0; t < T; t++)
        for (int i = 0; i < N; i++) {
            const float eps = noise_normal4(SEED, NOISE_EVAL, (uint32_t)t, 0, (uint32_t)(i / 4)).v[i % 4];
            pred[(t * N + i) * (learned ? 2 : 1)] = eps + miss_of(i);
            if (learned) pred[(t * N + i) * 2 + 1] = V[i];
        }
    OK(plan_write(r->p, r->pred, pred, &why));
    OK(plan_write(r->p, r->images, byte_of, &why));
    OK(plan_write(r->p, r->rows, rows, &why));
    OK(plan_write(r->p, r->state, &(train_state){.seed = SEED}, &why));
    OK(plan_write(r->p, r->index, index, &why));
    schedule_destroy(s);
}

Test(bits_per_dim, the_op_has_the_totals_of_improved_diffusion, .timeout = 120)
{
    static const struct {
        bool learned;
        float v;
        double want[2]; /* clip_denoised off and on, with the prior */
    } types[] = {{true, 0, {1.9196781275486547, 1.7238467587825337}},
                 {false, -1, {1.482365595955619, 1.285836245271767}},
                 {false, 1, {1.939020725673929, 1.7549188631026755}}};
    for (int k = 0; k < 3; k++)
        for (int clip = 0; clip < 2; clip++) {
            op_rig r;
            build_op(&r, types[k].learned, types[k].v, clip);
            fill_op(&r, types[k].learned);
            OK(plan_run(r.p, &why));
            float *vb = test_copy(r.be, r.out.vb);
            double total = 1.660168294145011e-05; /* the prior */
            for (int t = 0; t < T; t++) total += (double)vb[t];
            cr_expect_float_eq(total, types[k].want[clip], 3e-6 * total, "type %d, clip %d: %.9g, not %.9g", k, clip,
                               total, types[k].want[clip]);
            mem_free(vb);
            plan_destroy(r.p);
            backend_destroy(r.be);
        }
}

/* ---- a network ---- */

enum { SIDE = 12, PIXELS = SIDE * SIDE, IMAGES = 2 };

typedef struct rig {
    backend *be;
    model *m;
    uint8_t *images;
    int64_t label; /* of every image */
} rig;

static void set_up(rig *r, bool learned, scheduler_prediction prediction, scheduler_variance variance)
{
    const network net = trajectory_net(learned);
    scheduler_config c = scheduler_config_default();
    c.prediction_type = prediction;
    c.variance_type = variance;
    *r = (rig){.be = test_backend(2)};
    OK(model_create(r->be, &net, &c, &r->m, &why));
    OK(params_allocate(r->m->store, false, 0, &why));
    trajectory_weights(r->m, learned);
    safetensors *images = golden_open("trajectory/images.safetensors");
    r->images = golden_u8(images, "images", NULL);
    safetensors_close(images);
}

static void tear_down(rig *r)
{
    mem_free(r->images);
    model_destroy(r->m);
    backend_destroy(r->be);
}

static ddpm_status read_image(void *context, int64_t index, uint8_t *pixels, int64_t *label, err *e)
{
    const rig *r = context;
    (void)e;
    memcpy(pixels, r->images + index * (int64_t)(r->m->net.unet.sample_size_h * r->m->net.unet.sample_size_w),
           (size_t)(r->m->net.unet.sample_size_h * r->m->net.unet.sample_size_w));
    *label = r->label;
    return DDPM_OK;
}

static bits_result run(rig *r, const bits_spec *spec, int64_t count)
{
    bits_per_dim *b;
    bits_result result;
    OK(bits_create(r->m, spec, &b, &why));
    OK(bits_run(b, &(bits_images){.count = count, .read = read_image, .context = r}, &result, &why));
    cr_assert_eq(result.images, count);
    bits_destroy(b);
    return result;
}

static scheduler_prediction prediction_of(const char *word)
{
    if (!strcmp(word, "sample")) return SCHEDULER_SAMPLE;
    if (!strcmp(word, "v_prediction")) return SCHEDULER_V_PREDICTION;
    return strcmp(word, "mu") ? SCHEDULER_EPSILON : SCHEDULER_MU;
}

static void expect_close(const char *line, const char *what, double got, double want)
{
    const double bound = test_network_bound(2e-5, 5e-2);
    cr_expect_float_eq(got, want, bound * fabs(want), "%s%s: %.9g, not %.9g", line, what, got, want);
}

Test(bits_per_dim, a_network_agrees_with_the_formulas_in_float64, .timeout = 300)
{
    char line[300], prediction[40], variance[40];
    int clip, steps, cases = 0;
    double want[5];
    FILE *file = fopen(DDPM_TESTS "/eval/bits_per_dim.txt", "r");
    cr_assert_not_null(file);
    for (; fgets(line, sizeof line, file); cases++) {
        rig r;
        cr_assert_eq(sscanf(line, "%39s %39s %d %d %lf %lf %lf %lf %lf", prediction, variance, &clip, &steps, &want[0],
                            &want[1], &want[2], &want[3], &want[4]),
                     9);
        const bool learned = !strcmp(variance, "learned_range");
        const scheduler_variance fixed =
            strcmp(variance, "fixed_large") ? SCHEDULER_FIXED_SMALL : SCHEDULER_FIXED_LARGE;
        set_up(&r, learned, prediction_of(prediction), SCHEDULER_FIXED_SMALL);
        const bits_result got = run(&r,
                                    &(bits_spec){.batch = 40,
                                                 .steps = steps == T ? 0 : steps,
                                                 .seed = 7,
                                                 .variance = learned ? SCHEDULER_LEARNED_RANGE : fixed,
                                                 .clip = clip},
                                    IMAGES);
        double x0 = 0, eps = 0;
        cr_assert_eq(got.steps, steps);
        for (int k = 0; k < steps; k++) x0 += got.step[k].x0_mse / steps, eps += got.step[k].eps_mse / steps;
        expect_close(line, "total", got.total, want[0]);
        expect_close(line, "prior", got.prior, want[1]);
        expect_close(line, "decoder", got.step[0].vb, want[2]);
        expect_close(line, "x0", x0, want[3]);
        expect_close(line, "eps", eps, want[4]);
        mem_free(got.step);
        tear_down(&r);
    }
    (void)fclose(file);
    cr_expect_eq(cases, 12);
}

/* ---- what a result does not depend on ---- */

/* Three convolutions by our own loops, whose rounding does not depend on the batch. */
static void set_up_simple(rig *r, int threads)
{
    network net = {.kind = NETWORK_SIMPLE, .unet = unet_config_default()};
    scheduler_config c = scheduler_config_default();
    net.unet.in_channels = 1, net.unet.out_channels = 2;
    net.unet.sample_size_h = 6, net.unet.sample_size_w = 4;
    const backend_spec spec = {.device = "cpu", .threads = threads, .conv = CONV_ALGO_DIRECT};
    *r = (rig){.be = NULL};
    OK(backend_create(&spec, &r->be, &why));
    OK(model_create(r->be, &net, &c, &r->m, &why));
    OK(params_allocate(r->m->store, false, 0, &why));
    OK(params_init(r->m->store, 3, &why));
    OK(mem_array(&r->images, 100 * 24, 1, "test", &why));
    for (int i = 0; i < 100 * 24; i++) r->images[i] = (uint8_t)(i * 37 + i * i % 101);
}

static void expect_same(const bits_result *a, const bits_result *b, const char *what)
{
    cr_assert_eq(a->steps, b->steps);
    cr_expect_eq(memcmp(&a->total, &b->total, sizeof a->total), 0, "%s: %.17g and %.17g", what, a->total, b->total);
    cr_expect_eq(memcmp(&a->deviation, &b->deviation, sizeof a->deviation), 0, "%s", what);
    cr_expect_eq(memcmp(a->step, b->step, (size_t)a->steps * sizeof *a->step), 0, "%s", what);
}

Test(bits_per_dim, nothing_depends_on_the_batch_or_the_threads)
{
    static const struct {
        int batch, threads;
    } ways[] = {{1, 1}, {7, 2}, {10, 1}, {64, 3}, {1000, 2}};
    const int64_t count = 5;
    bits_result first;
    for (int k = 0; k < 5; k++) {
        rig r;
        set_up_simple(&r, ways[k].threads);
        const bits_spec spec = {.batch = ways[k].batch, .steps = 11, .seed = 1, .variance = SCHEDULER_LEARNED_RANGE};
        const bits_result got = run(&r, &spec, count);
        if (k == 0)
            first = got;
        else
            expect_same(&first, &got, "batch and threads");
        if (k > 0) mem_free(got.step);
        tear_down(&r);
    }
    mem_free(first.step);
}

/* The mean of all is the mean of those of each alone; another seed and another image are another result. */
Test(bits_per_dim, the_mean_is_over_the_images)
{
    rig r;
    double sum = 0, squares = 0;
    set_up_simple(&r, 1);
    const bits_spec spec = {.batch = 9, .steps = 4, .seed = 1, .variance = SCHEDULER_FIXED_LARGE};
    const bits_result all = run(&r, &spec, 3), one = run(&r, &spec, 1);
    bits_spec other = spec;
    other.seed = 2;
    const bits_result reseeded = run(&r, &other, 1);
    cr_expect(one.total != reseeded.total && fabs(one.prior - reseeded.prior) < 1e-15);
    cr_expect(isnan(one.deviation));
    double before = 0;
    for (int64_t n = 1; n <= 3; n++) { /* the totals of the images, from those of the first n */
        const bits_result some = run(&r, &spec, n);
        const double image = some.total * (double)n - before;
        before = some.total * (double)n;
        sum += image / 3;
        squares += image * image / 3;
        mem_free(some.step);
    }
    cr_expect_float_eq(all.total, sum, 1e-12);
    cr_expect_float_eq(all.deviation, sqrt((squares - sum * sum) / 2), 1e-9);
    mem_free(all.step);
    mem_free(one.step);
    mem_free(reseeded.step);
    tear_down(&r);
}

/* ---- classes, and what cannot be evaluated ---- */

Test(bits_per_dim, the_network_is_told_the_class)
{
    rig r;
    network net = trajectory_net(false);
    const scheduler_config c = scheduler_config_default();
    net.unet.num_class_embeds = 3;
    r = (rig){.be = test_backend(2)};
    OK(model_create(r.be, &net, &c, &r.m, &why));
    OK(params_allocate(r.m->store, false, 0, &why));
    float *weights;
    OK(mem_array(&weights, r.m->store->count, sizeof *weights, "test", &why));
    for (size_t i = 0; i < r.m->store->count; i++) weights[i] = 0.2f * sinf((float)(i * i % 1009));
    OK(params_set(r.m->store, ARENA_PARAM, weights, &why));
    mem_free(weights);
    safetensors *images = golden_open("trajectory/images.safetensors");
    r.images = golden_u8(images, "images", NULL);
    safetensors_close(images);
    const bits_spec spec = {.batch = 8, .steps = 3, .variance = SCHEDULER_FIXED_SMALL};
    bits_result of[2];
    for (int k = 0; k < 2; k++) r.label = k, of[k] = run(&r, &spec, 1);
    cr_expect(of[0].total != of[1].total);
    mem_free(of[0].step);
    mem_free(of[1].step);
    tear_down(&r);
}

static void expect_refused(scheduler_config c, bool learned, bits_spec spec, const char *said)
{
    const network net = trajectory_net(learned);
    bits_per_dim *b;
    model *m;
    backend *be = test_backend(1);
    OK(model_create(be, &net, &c, &m, &why));
    OK(params_allocate(m->store, false, 0, &why));
    spec.batch = 2;
    cr_expect_eq(bits_create(m, &spec, &b, &why), DDPM_EINVAL, "%s", said);
    cr_expect(strstr(why.text, said), "'%s', not '%s'", why.text, said);
    model_destroy(m);
    backend_destroy(be);
}

Test(bits_per_dim, what_has_no_such_bound_is_refused)
{
    const scheduler_config ddpm = scheduler_config_default();
    expect_refused(scheduler_config_of(SCHEDULER_CLASS_EDM_EULER), false, (bits_spec){.steps = 3},
                   "EDMEulerScheduler: bits per dimension are defined for processes with betas alone");
    expect_refused(scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER), false, (bits_spec){.steps = 3},
                   "FlowMatchEulerDiscreteScheduler: ");
    expect_refused(ddpm, true, (bits_spec){.variance = SCHEDULER_LEARNED}, "variance_type learned: only fixed_small");
    expect_refused(ddpm, false, (bits_spec){.variance = SCHEDULER_LEARNED_RANGE},
                   "the network has 1 output channels; with variance_type learned_range it must have 2");
    expect_refused(ddpm, false, (bits_spec){.steps = 1001, .variance = SCHEDULER_FIXED_SMALL}, "1001");
}

static int64_t ticks, evaluated, finished;

static void count(void *context, int64_t evaluations, int64_t images)
{
    (void)context;
    ticks++, evaluated = evaluations, finished = images;
    cr_expect_eq(images, evaluations / 4, "of 4 steps each");
}

Test(bits_per_dim, a_run_tells_how_far_it_is_and_what_is_not_finite)
{
    rig r;
    bits_per_dim *b;
    bits_result result;
    set_up_simple(&r, 1);
    const bits_spec spec = {.batch = 3, .steps = 4, .variance = SCHEDULER_FIXED_SMALL};
    OK(bits_create(r.m, &spec, &b, &why));
    const bits_images images = {.count = 3, .read = read_image, .tick = count, .context = &r};
    OK(bits_run(b, &images, &result, &why));
    cr_expect(ticks == 4 && evaluated == 12 && finished == 3);
    mem_free(result.step);
    bits_destroy(b);
    float *weights;
    OK(mem_array(&weights, r.m->store->count, sizeof *weights, "test", &why));
    for (size_t i = 0; i < r.m->store->count; i++) weights[i] = NAN;
    OK(params_set(r.m->store, ARENA_PARAM, weights, &why));
    mem_free(weights);
    OK(bits_create(r.m, &spec, &b, &why));
    cr_expect_eq(bits_run(b, &images, &result, &why), DDPM_EDIVERGED);
    cr_expect_null(result.step);
    cr_expect(strstr(why.text, "image 0 at timestep 0: the network's output is not finite"), "%s", why.text);
    bits_destroy(b);
    tear_down(&r);
}
