/* Whole training runs through plans against PyTorch and diffusers, step by step. */
#include "base/file.h"
#include "base/mem.h"
#include "diffusion/objective.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/net_rig.h"
#include "support/ok.h"
#include "train_state.h"
#include "update.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum { IMAGES = 20, SIDE = 12, PIXELS = SIDE * SIDE, T = 1000 };
#define LOSS_TOLERANCE   test_network_bound(1e-5, 1e-2) /* relative */
#define NORM_TOLERANCE   test_network_bound(1e-5, 3e-2)
#define WEIGHT_TOLERANCE test_network_bound(1e-4, 1e-2)

static const struct {
    const char *name;
    scheduler_prediction prediction;
    const char *initial;
    float label_dropout;
} runs[] = {
    {"epsilon", SCHEDULER_EPSILON, "initial", 0},           {"sample", SCHEDULER_SAMPLE, "initial", 0},
    {"v_prediction", SCHEDULER_V_PREDICTION, "initial", 0}, {"mu", SCHEDULER_MU, "initial", 0},
    {"micro_batches", SCHEDULER_EPSILON, "initial", 0},     {"classes", SCHEDULER_EPSILON, "initial_classes", 0.25f}};
enum { RUNS = sizeof runs / sizeof *runs };

static err why; /* each test is a process of its own */

typedef struct run {
    const char *name;
    safetensors *io;
    net_rig r;
    uint8_t *images;
    int64_t batch, micro_batches, steps; /* batch: images a step */
    double *losses, *norms, *lr;
    double worst_loss, worst_norm, worst_lr;
} run;

static double setup_f64(const safetensors *io, const char *key)
{
    char name[80];
    (void)snprintf(name, sizeof name, "setup.%s", key);
    double *v = golden_f64(io, name, NULL), value = *v;
    mem_free(v);
    return value;
}

static int64_t setup_i64(const safetensors *io, const char *key)
{
    char name[80];
    (void)snprintf(name, sizeof name, "setup.%s", key);
    int64_t *v = golden_i64(io, name, NULL), value = *v;
    mem_free(v);
    return value;
}

static const char *weights_of(char path[2 * PATH_CAP], const char *name)
{
    char dir[PATH_CAP], folder[200];
    (void)snprintf(folder, sizeof folder, "trajectory/%s", name);
    (void)snprintf(path, 2 * PATH_CAP, "%s/diffusion_pytorch_model.safetensors", golden_path(dir, folder));
    return path;
}

static void build(run *q, int index)
{
    const safetensors *io = q->io;
    char dir[PATH_CAP], path[2 * PATH_CAP], folder[200];
    const step_attr updates = {.update = {.lr = {.peak = setup_f64(io, "lr"),
                                                 .schedule = LR_CONSTANT_WITH_WARMUP,
                                                 .warmup_steps = setup_i64(io, "warmup")},
                                          .beta1 = 0.9,
                                          .beta2 = 0.999,
                                          .eps = 1e-8,
                                          .weight_decay = setup_f64(io, "weight_decay"),
                                          .max_grad_norm = setup_f64(io, "clip"),
                                          .ema = {{.kind = EMA_WARMUP, .decay = setup_f64(io, "ema_decay")}}}};
    net_options o = {.n = q->batch / q->micro_batches,
                     .h = SIDE,
                     .w = SIDE,
                     .keep = true,
                     .timesteps = T,
                     .micro_batches = (int)q->micro_batches,
                     .updates = &updates};
    o.label_dropout = runs[index].label_dropout;
    (void)snprintf(folder, sizeof folder, "trajectory/%s", runs[index].initial);
    (void)snprintf(path, sizeof path, "%s/config.json", golden_path(dir, folder));
    OK(unet_config_read(path, &o.net.unet, NULL, &why));
    net_train(&q->r, &o);
    net_allocate(&q->r, ARENA_PARAM, weights_of(path, runs[index].initial));
}

static void open_run(run *q, int index)
{
    char path[200];
    static float table[T * TABLE_COLUMNS];
    scheduler_config c = scheduler_config_default();
    schedule *s = NULL;
    q->name = runs[index].name;
    (void)snprintf(path, sizeof path, "trajectory/%s/io.safetensors", q->name);
    q->io = golden_open(path);
    safetensors *images = golden_open("trajectory/images.safetensors");
    q->images = golden_u8(images, "images", NULL);
    safetensors_close(images);
    q->losses = golden_f64(q->io, "losses", &q->steps);
    q->norms = golden_f64(q->io, "grad_norms", NULL);
    q->lr = golden_f64(q->io, "lr", NULL);
    q->batch = setup_i64(q->io, "batch");
    q->micro_batches = setup_i64(q->io, "micro_batches");
    build(q, index);
    c.prediction_type = runs[index].prediction;
    OK(schedule_create(&c, &s, &why));
    const objective plain = objective_default();
    objective_fill_table(s, &plain, table);
    schedule_destroy(s);
    OK(plan_write(q->r.p, q->r.table, table, &why));
    const train_state state = {.seed = (uint64_t)setup_i64(q->io, "seed"), .beta1_pow = 1, .beta2_pow = 1};
    OK(plan_write(q->r.p, q->r.state, &state, &why));
}

static void close_run(run *q)
{
    mem_free(q->images);
    mem_free(q->losses);
    mem_free(q->norms);
    mem_free(q->lr);
    safetensors_close(q->io);
    net_destroy(&q->r);
}

/* The micro-batch that starts with that sample of the run. */
static void run_micro_batch(run *q, int64_t first)
{
    const int64_t n = q->r.images->n;
    uint8_t images[8 * PIXELS];
    cr_assert(n <= 8);
    for (int64_t b = 0; b < n; b++) memcpy(images + b * PIXELS, q->images + (first + b) % IMAGES * PIXELS, PIXELS);
    OK(plan_write(q->r.p, q->r.images, images, &why));
    int64_t labels[8]; /* as gen_golden.py has them */
    for (int64_t b = 0; b < n; b++) labels[b] = (first + b) % IMAGES * 3 % 4;
    if (q->r.labels) OK(plan_write(q->r.p, q->r.labels, labels, &why));
    net_run(&q->r);
}

static void worsen(double *worst, double ours, double theirs)
{
    const double error = theirs == 0 ? fabs(ours) : fabs(ours - theirs) / fabs(theirs);
    if (!(error <= *worst)) *worst = error;
}

static void check_first(const run *q, const char *what, const tensor *t, double tolerance)
{
    int64_t n = 0;
    float *theirs = golden_f32(q->io, what, &n);
    cr_assert_eq(n, tensor_count(t));
    float *ours = test_copy(q->r.be, t);
    const double error = rel_l2(ours, theirs, n);
    cr_log_info("%s: %s off by %.2e", q->name, what, error);
    cr_expect(error <= tolerance, "%s: %s off by %.2e", q->name, what, error);
    mem_free(ours);
    mem_free(theirs);
}

static void check_timesteps(const run *q, int64_t first)
{
    int64_t *t = golden_i64(q->io, "t", NULL);
    float *ours = test_copy(q->r.be, q->r.drawn.t);
    for (int64_t b = 0; b < q->r.images->n; b++) cr_assert_eq((int64_t)ours[b], t[first + b], "sample %ld", first + b);
    mem_free(ours);
    mem_free(t);
}

static void run_steps(run *q)
{
    const int64_t n = q->batch / q->micro_batches;
    train_state state;
    for (int64_t k = 0; k < q->steps; k++) {
        for (int64_t m = 0; m < q->micro_batches; m++) {
            run_micro_batch(q, k * q->batch + m * n);
            check_timesteps(q, k * q->batch + m * n);
        }
        if (k == 0 && q->micro_batches == 1) {
            check_first(q, "first.x_t", q->r.xt, test_network_bound(1e-6, 4e-3));
            check_first(q, "first.out", q->r.out.y, test_network_bound(1e-5, 3e-2));
        }
        OK(plan_run(q->r.update, &why));
        OK(plan_read(q->r.p, q->r.state, &state, &why));
        worsen(&q->worst_loss, (double)state.loss, q->losses[k]);
        worsen(&q->worst_norm, (double)state.grad_norm, q->norms[k]);
        worsen(&q->worst_lr, (double)state.lr, q->lr[k]);
    }
    cr_expect(state.updates == (uint64_t)q->steps && state.skipped == 0);
    cr_expect_eq(state.sample, (uint64_t)(q->steps * q->batch));
}

/* rel_l2 of a whole arena and the weights of a folder.  The arena is left with the latter. */
static double distance(run *q, arena_kind arena, const char *folder)
{
    params *s = q->r.store;
    char path[2 * PATH_CAP];
    float *ours = test_params(s, arena);
    OK(params_load(s, arena, weights_of(path, folder), NULL, &why));
    float *theirs = test_params(s, arena);
    const double error = rel_l2(ours, theirs, (int64_t)s->count);
    mem_free(ours);
    mem_free(theirs);
    return error;
}

static void check_weights(run *q, arena_kind arena, const char *folder, const char *plain)
{
    double *floats = golden_f64(q->io, plain, NULL);
    const double error = distance(q, arena, folder);
    cr_log_info("%s: weights off by %.2e; PyTorch in float32 by %.2e", folder, error, *floats);
    cr_expect(error <= WEIGHT_TOLERANCE, "%s: weights off by %.2e", folder, error);
    mem_free(floats);
}

/* Three weights of the run with micro-batches. */
static void check_parts(run *q)
{
    static const char *const names[] = {"conv_in.weight", "mid_block.attentions.0.to_q.weight", "conv_out.weight"};
    const params *s = q->r.store;
    float *ours = test_params(s, ARENA_PARAM);
    for (int i = 0; i < 3; i++) {
        char name[NAME_CAP + 8];
        const param *p = params_find(s, names[i]);
        int64_t n = 0;
        float *moved;
        (void)snprintf(name, sizeof name, "final.%s", names[i]);
        float *theirs = golden_f32(q->io, name, &n);
        OK(mem_array(&moved, (size_t)n, sizeof *moved, "test", &why));
        if (p->rank == 4)
            filter_from_torch(moved, theirs, (int64_t[]){p->n, p->c, p->h, p->w});
        else
            memcpy(moved, theirs, (size_t)n * sizeof *moved);
        const double error = rel_l2(ours + p->offset, moved, n);
        cr_log_info("%s: %s off by %.2e", q->name, names[i], error);
        cr_expect(error <= WEIGHT_TOLERANCE, "%s: %s off by %.2e", q->name, names[i], error);
        mem_free(moved);
        mem_free(theirs);
    }
    mem_free(ours);
}

ParameterizedTestParameters(trajectory, matches_pytorch)
{
    static int index[RUNS];
    for (int i = 0; i < RUNS; i++) index[i] = i;
    return cr_make_param_array(int, index, RUNS);
}
ParameterizedTest(const int *index, trajectory, matches_pytorch)
{
    run q = {0};
    open_run(&q, *index);
    run_steps(&q);
    cr_log_info("%s: losses off by %.2e, gradient norms by %.2e", q.name, q.worst_loss, q.worst_norm);
    cr_expect(q.worst_loss <= LOSS_TOLERANCE, "%s: a loss is off by %.2e", q.name, q.worst_loss);
    cr_expect(q.worst_norm <= NORM_TOLERANCE, "%s: a gradient norm is off by %.2e", q.name, q.worst_norm);
    cr_expect(q.worst_lr <= 1e-6, "%s: a learning rate is off by %.2e", q.name, q.worst_lr);
    if (q.micro_batches > 1)
        check_parts(&q);
    else
        check_weights(&q, ARENA_PARAM, q.name, "float32.weights_rel_l2");
    if (!strcmp(q.name, "epsilon")) check_weights(&q, ARENA_EMA, "epsilon_ema", "float32.ema_rel_l2");
    close_run(&q);
}
