/* The ends of a training step: noising, loss and update against the same in double. */
#include "base/mem.h"
#include "noise.h"
#include "nn/nn.h"
#include "ref/ref_ops.h"
#include "support/device.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

static err why; /* each test is a process of its own */

static void *new_array(int64_t count, size_t size)
{
    void *a;
    OK(mem_array(&a, (size_t)count, size, "test", &why));
    return a;
}

static float normal(uint32_t what, int64_t i) { return noise_normal4(21, what, 0, 0, (uint32_t)(i / 4)).v[i % 4]; }

static double off_by(const float *a, const double *b, int64_t n)
{
    double sum = 0, size = 0;
    for (int64_t i = 0; i < n; i++) sum += pow((double)a[i] - b[i], 2), size += b[i] * b[i];
    return sqrt(sum / size);
}

/* ---- q_sample and loss ---- */

typedef enum variance_case { FIXED, HYBRID, VLB } variance_case;
typedef struct noise_case {
    int n, h, w, c, flip;
    variance_case variance;
} noise_case;
static const noise_case noise_cases[] = {
#define NOISE(n, h, w, c, flip, variance) {n, h, w, c, flip, variance},
#include "cases.def"
};

enum { T = 50, MICRO_BATCHES = 3 };
static const double BOUND = 0.7;

static int channels_of(const noise_case *c) { return c->variance == FIXED ? c->c : 2 * c->c; }

typedef struct noise_rig {
    backend *be;
    plan *p;
    tensor *images, *table, *state, *pred, *xt;
    nn_drawn drawn;
    nn_losses losses;
} noise_rig;

static void build_noise(noise_rig *r, const noise_case *c)
{
    r->be = test_backend(2);
    OK(plan_create(r->be, &r->p, &why));
    plan *p = r->p;
    p->training = true;
    r->images = plan_input(p, DTYPE_U8, "images", c->n, c->h, c->w, c->c);
    r->table = plan_input(p, DTYPE_F32, "table", T, 1, 1, TABLE_COLUMNS);
    r->state = plan_input(p, DTYPE_U8, "state", sizeof(train_state), 1, 1, 1);
    r->pred = plan_input(p, DTYPE_F32, "pred", c->n, c->h, c->w, channels_of(c));
    plan_want_grad(p, r->pred);
    r->drawn = nn_draw(p, &(nn_draw_args){.n = c->n, .table = r->table, .state = r->state});
    r->xt = nn_q_sample(
        p, &(nn_q_sample_args){.images = r->images, .rows = r->drawn.rows, .state = r->state, .flip = c->flip});
    plan_keep(p, r->xt);
    plan_keep(p, r->drawn.t);
    r->losses = nn_loss(p, &(nn_loss_args){.pred = r->pred,
                                           .images = r->images,
                                           .rows = r->drawn.rows,
                                           .state = r->state,
                                           .flip = c->flip,
                                           .learned = c->variance != FIXED,
                                           .kl = c->variance == VLB,
                                           .bound = BOUND,
                                           .micro_batches = MICRO_BATCHES});
    plan_differentiate(p, r->losses.loss, NULL);
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
}

static ref_batch fill_noise(noise_rig *r, const noise_case *c, train_state *state, double *pred)
{
    const int64_t count = (int64_t)c->n * c->h * c->w * c->c, outputs = (int64_t)c->n * c->h * c->w * channels_of(c);
    uint8_t *images = new_array(count, 1);
    float *table = new_array(T * TABLE_COLUMNS, sizeof *table), *rounded = new_array(outputs, sizeof *rounded);
    for (int64_t i = 0; i < count; i++) images[i] = (uint8_t)(i * 89 + i / 255);
    for (int64_t i = 0; i < outputs; i++) {
        rounded[i] = normal(0, i);
        pred[i] = (double)rounded[i];
    }
    for (int i = 0; i < T * TABLE_COLUMNS; i++) table[i] = 0.1f + fabsf(normal(1, i));
    for (int t = 0; t < T; t++) table[t * TABLE_COLUMNS + TABLE_DECODER] = (float)(t % 2);
    *state = (train_state){.seed = 0x123456789abcdefu, .sample = 0xFFFFFFFEu};
    OK(plan_write(r->p, r->images, images, &why));
    OK(plan_write(r->p, r->table, table, &why));
    OK(plan_write(r->p, r->state, state, &why));
    OK(plan_write(r->p, r->pred, rounded, &why));
    mem_free(rounded);
    return (ref_batch){.images = images,
                       .table = table,
                       .state = state,
                       .n = c->n,
                       .h = c->h,
                       .w = c->w,
                       .c = c->c,
                       .timesteps = T,
                       .flip = c->flip,
                       .learned = c->variance != FIXED,
                       .kl = c->variance == VLB,
                       .bound = BOUND};
}

static void check_forward(const noise_rig *r, const ref_batch *batch, int64_t count)
{
    double *xt = new_array(count, sizeof *xt), *t = new_array(batch->n, sizeof *t);
    ref_q_sample(batch, xt, t);
    float *our_t = test_copy(r->be, r->drawn.t), *our_xt = test_copy(r->be, r->xt);
    for (int b = 0; b < batch->n; b++) cr_expect_eq((double)our_t[b], t[b], "t of image %d", b);
    const double error = off_by(our_xt, xt, count);
    cr_expect(error <= test_bound(2e-7, 0x1p-8), "x_t is off by %.2e", error);
    mem_free(our_t);
    mem_free(our_xt);
    mem_free(xt);
    mem_free(t);
}

/* Slope of the mean of all losses, over MICRO_BATCHES, in a random direction. */
static double slope_of_loss(const ref_batch *batch, const double *pred, const double *direction, int64_t count)
{
    double *moved = new_array(count, sizeof *moved), *ignored = new_array(count, sizeof *ignored), sum[4] = {0};
    double *loss = new_array(batch->n, sizeof *loss);
    const double by = 0x1p-8, at[4] = {-2, -1, 1, 2};
    ref_batch held = *batch;
    if (!batch->kl) held.held = pred; /* the bound does not train the prediction */
    for (int k = 0; k < 4; k++) {
        for (int64_t i = 0; i < count; i++) moved[i] = pred[i] + at[k] * by * direction[i];
        ref_loss(&held, moved, 1, loss, ignored);
        for (int b = 0; b < batch->n; b++) sum[k] += loss[b] / (batch->n * MICRO_BATCHES);
    }
    mem_free(loss);
    mem_free(moved);
    mem_free(ignored);
    return (8 * (sum[2] - sum[1]) - (sum[3] - sum[0])) / (12 * by);
}

/* What is logged beside the loss. */
static void check_logged(const noise_rig *r, const ref_batch *batch, const double *loss)
{
    float *error = test_copy(r->be, r->losses.error), *vb = r->losses.vb ? test_copy(r->be, r->losses.vb) : NULL;
    for (int b = 0; b < batch->n; b++) {
        const double weighted = (double)error[b] * (double)ref_row(batch, b)[TABLE_WEIGHT];
        const double ours = (batch->kl ? 0 : weighted) + (vb ? batch->bound * (double)vb[b] : 0);
        cr_expect_float_eq(ours, loss[b], 2e-6 * fabs(loss[b]), "image %d", b);
    }
    mem_free(error);
    mem_free(vb);
}

static void check_loss(const noise_rig *r, const ref_batch *batch, const double *pred, int64_t count)
{
    double *dpred = new_array(count, sizeof *dpred), *loss = new_array(batch->n, sizeof *loss);
    double *direction = new_array(count, sizeof *direction), ours = 0;
    float *gradient = test_copy(r->be, r->pred->grad), *our_loss = test_copy(r->be, r->losses.loss);
    const int64_t values = (int64_t)batch->n * batch->h * batch->w * batch->c;
    ref_loss(batch, pred, 1.0 / ((double)values * MICRO_BATCHES), loss, dpred);
    const double error = off_by(our_loss, loss, batch->n), error_d = off_by(gradient, dpred, count);
    cr_expect(error <= 2e-7, "loss is off by %.2e", error);
    check_logged(r, batch, loss);
    cr_expect(error_d <= 3e-7, "dpred is off by %.2e", error_d);
    double size = 0;
    for (int64_t i = 0; i < count; i++) {
        direction[i] = (double)normal(2, i);
        ours += (double)gradient[i] * direction[i];
        size += fabs((double)gradient[i] * direction[i]);
    }
    const double slope = slope_of_loss(batch, pred, direction, count);
    cr_expect_float_eq(ours, slope, 1e-6 * fabs(slope) + 1e-7 * size, "gradient %.9g, slope %.9g", ours, slope);
    mem_free(gradient);
    mem_free(our_loss);
    mem_free(dpred);
    mem_free(loss);
    mem_free(direction);
}

ParameterizedTestParameters(train_ops, noise_and_loss_match_double)
{
    return cr_make_param_array(noise_case, (void *)(uintptr_t)noise_cases, sizeof noise_cases / sizeof *noise_cases);
}
ParameterizedTest(const noise_case *c, train_ops, noise_and_loss_match_double)
{
    const int64_t count = (int64_t)c->n * c->h * c->w * c->c, outputs = (int64_t)c->n * c->h * c->w * channels_of(c);
    noise_rig r = {0};
    train_state state;
    double *pred = new_array(outputs, sizeof *pred);
    build_noise(&r, c);
    const ref_batch batch = fill_noise(&r, c, &state, pred);
    OK(plan_run(r.p, &why));
    check_forward(&r, &batch, count);
    check_loss(&r, &batch, pred, outputs);
    mem_free((void *)(uintptr_t)batch.images);
    mem_free((void *)(uintptr_t)batch.table);
    mem_free(pred);
    plan_destroy(r.p);
    backend_destroy(r.be);
}

/* ---- tally, grad_norm, adamw ---- */

typedef struct update_case {
    int n, count;
} update_case;
static const update_case update_cases[] = {
#define UPDATE(n, count) {n, count},
#include "cases.def"
};

enum { STEPS = 7, SKIPPED = 3 }; /* step 3 has a gradient that is not finite */

static const step_attr update_attr = {
    .update = {.lr = {.peak = 0.01, .schedule = LR_COSINE, .warmup_steps = 2, .total_steps = STEPS},
               .beta1 = 0.9,
               .beta2 = 0.99,
               .eps = 0.05,
               .weight_decay = 0.1,
               .max_grad_norm = 1.5,
               .ema = {{.kind = EMA_WARMUP, .decay = 0.35}},
               .zero_grad = true}};

typedef struct update_rig {
    backend *be;
    plan *p;
    tensor *loss, *state, *of[ARENA_COUNT];
    uint64_t version;
} update_rig;

static void build_update(update_rig *r, const update_case *c)
{
    r->be = test_backend(2);
    OK(plan_create(r->be, &r->p, &why));
    plan *p = r->p;
    r->loss = plan_input(p, DTYPE_F32, "loss", c->n, 1, 1, 1);
    r->state = plan_input(p, DTYPE_U8, "state", sizeof(train_state), 1, 1, 1);
    const nn_losses losses = {.loss = r->loss, .error = r->loss};
    const nn_drawn drawn = {.rows = plan_input(p, DTYPE_F32, "rows", c->n, 1, 1, TABLE_COLUMNS)};
    nn_tally(p, &losses, &drawn, r->state, NULL, 1);
    nn_update(p, r->state, NULL, NULL, c->count, &update_attr);
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
    for (int i = 0; i < p->n_tensor; i++) {
        tensor *t = p->tensors[i];
        if (t->arena < ARENA_PARAM) continue;
        OK(r->be->fn->alloc(r->be, (size_t)c->count * sizeof(float), &t->data, &why));
        r->of[t->arena] = t;
    }
    r->of[ARENA_PARAM]->version = &r->version;
}

/* Fill an arena and its copy in double. */
static double *start(update_rig *r, arena_kind arena, int64_t count, uint32_t what)
{
    double *copy = new_array(count, sizeof *copy);
    float *values = new_array(count, sizeof *values);
    for (int64_t i = 0; i < count; i++) {
        values[i] = arena == ARENA_V ? 1 + fabsf(normal(what, i)) : normal(what, i);
        copy[i] = (double)values[i];
    }
    test_upload(r->be, r->of[arena], values);
    mem_free(values);
    return copy;
}

/* The learning rate of step k (diffusers' get_cosine_schedule_with_warmup). */
static double lr_of(int k)
{
    if (k < 2) return 0.01 * k / 2;
    return 0.01 * 0.5 * (1 + cos(M_PI * (k - 2.0) / (STEPS - 2)));
}

/* diffusers' EMAModel without power warm-up: 0, then (1 + k) / (10 + k), k the updates before this one. */
static double ema_of(int updates) { return updates == 1 ? 0 : fmin(0.35, updates / (9.0 + updates)); }

static void check_state(const update_rig *r, int k, int updates, double loss, double norm)
{
    train_state state;
    OK(plan_read(r->p, r->state, &state, &why));
    const train_state *s = &state;
    const bool skipped = k == SKIPPED;
    cr_expect_eq(s->step, (uint64_t)k + 1);
    cr_expect_eq(s->updates, (uint64_t)updates);
    cr_expect_eq(s->skipped, (uint64_t)(k >= SKIPPED));
    cr_expect_eq(s->sample, (uint64_t)(k + 1) * (uint64_t)r->loss->n);
    cr_expect_float_eq(s->loss, loss, 1e-6 * loss, "step %d: loss %g, not %g", k, (double)s->loss, loss);
    cr_expect_eq(s->loss_sum, 0);
    cr_expect_float_eq(s->lr, lr_of(k), 1e-9);
    cr_expect(skipped ? s->clip == 0 : fabs((double)s->grad_norm - norm) <= 1e-6 * norm);
    if (!skipped) cr_expect_float_eq(s->ema_decay, ema_of(updates), 1e-6, "step %d: decay %g", k, s->ema_decay);
}

static void check_arena(const update_rig *r, arena_kind arena, const double *want, int k)
{
    float *got = test_copy(r->be, r->of[arena]);
    const int64_t count = r->of[arena]->n;
    /* weights and EMA are near 1 or differences of such */
    const double floor = arena == ARENA_M || arena == ARENA_V ? 0.02 : 0.2;
    for (int64_t i = 0; i < count; i++)
        cr_assert(fabs((double)got[i] - want[i]) <= 1e-6 * (fabs(want[i]) + floor),
                  "step %d, arena %d, %lld: %.9g, not %.9g", k, arena, (long long)i, (double)got[i], want[i]);
    mem_free(got);
}

/* Step k on both sides; returns the updates so far. */
static int update_step(update_rig *r, const ref_weights *exact, int k, int updates)
{
    float *g = new_array(exact->count, sizeof *g), *losses = new_array(r->loss->n, sizeof *losses);
    double loss = 0;
    for (int b = 0; b < r->loss->n; b++)
        losses[b] = fabsf(normal(50, b)), loss += (double)losses[b] / (double)r->loss->n;
    for (int64_t i = 0; i < exact->count; i++) g[i] = normal((uint32_t)(10 + k), i), exact->g[i] = (double)g[i];
    if (k == SKIPPED) g[exact->count - 1] = r->loss->n > 3 ? NAN : INFINITY;
    test_upload(r->be, r->of[ARENA_GRAD], g);
    test_upload(r->be, r->loss, losses);
    const double norm = ref_grad_norm(exact);
    if (k != SKIPPED) {
        updates++;
        ref_adamw(exact, &(ref_optimizer){.beta1 = 0.9,
                                          .beta2 = 0.99,
                                          .eps = 0.05,
                                          .weight_decay = 0.1,
                                          .max_grad_norm = 1.5,
                                          .lr = lr_of(k),
                                          .ema_decay = ema_of(updates),
                                          .updates = updates});
    }
    OK(plan_run(r->p, &why));
    check_state(r, k, updates, loss, norm);
    test_download(r->be, r->of[ARENA_GRAD], g);
    for (int64_t i = 0; i < exact->count; i++) cr_assert_eq(g[i], 0, "the gradient is not zeroed");
    mem_free(g);
    mem_free(losses);
    return updates;
}

ParameterizedTestParameters(train_ops, update_matches_double)
{
    return cr_make_param_array(update_case, (void *)(uintptr_t)update_cases,
                               sizeof update_cases / sizeof *update_cases);
}
ParameterizedTest(const update_case *c, train_ops, update_matches_double)
{
    update_rig r = {0};
    int updates = 0;
    build_update(&r, c);
    ref_weights exact = {.count = c->count, .g = new_array(c->count, sizeof(double))};
    exact.w = start(&r, ARENA_PARAM, c->count, 1);
    exact.m = start(&r, ARENA_M, c->count, 2);
    exact.v = start(&r, ARENA_V, c->count, 3);
    exact.ema = start(&r, ARENA_EMA, c->count, 4);
    OK(plan_write(r.p, r.state, &(train_state){.beta1_pow = 1, .beta2_pow = 1}, &why));
    for (int k = 0; k < STEPS; k++) {
        updates = update_step(&r, &exact, k, updates);
        check_arena(&r, ARENA_PARAM, exact.w, k);
        check_arena(&r, ARENA_M, exact.m, k);
        check_arena(&r, ARENA_V, exact.v, k);
        check_arena(&r, ARENA_EMA, exact.ema, k);
    }
    cr_expect_eq(r.version, STEPS, "the weights' version has not moved");
    double *const mine[] = {exact.g, exact.w, exact.m, exact.v, exact.ema};
    for (int i = 0; i < 5; i++) mem_free(mine[i]);
    for (int a = ARENA_PARAM; a < ARENA_COUNT; a++)
        if (r.of[a]) r.be->fn->release(r.be, r.of[a]->data);
    plan_destroy(r.p);
    backend_destroy(r.be);
}
