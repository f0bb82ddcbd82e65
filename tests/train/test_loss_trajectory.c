/* Training steps with each loss, weight, noise and distribution of timesteps against PyTorch: make_loss_trajectories.py. */
#include "base/mem.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/ok.h"
#include "support/trajectory_net.h"
#include "train/trainer.h"
#include "update.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>

enum { IMAGES = 20, SIDE = 12, PIXELS = SIDE * SIDE, BATCH = 8, STEPS = 50 };

typedef struct variant {
    char name[32];
    scheduler_prediction prediction;
    loss_kind loss;
    huber_schedule huber;
    objective_weighting weighting;
    timestep_draw_kind draw;
    bool stratified;
    float offset, perturbation;
    scheduler_class process; /* DDPM: betas */
    double shift;            /* of a flow */
    bool zero_snr, learned, kl;
    int T, micro_batches; /* 0: 1000, 1 */
} variant;

static const variant variants[] = {
    {.name = "l1", .loss = LOSS_L1},
    {.name = "huber", .loss = LOSS_HUBER},
    {.name = "smooth_l1_exponential", .loss = LOSS_SMOOTH_L1, .huber = HUBER_EXPONENTIAL},
    {.name = "pseudo_huber_snr", .loss = LOSS_PSEUDO_HUBER, .huber = HUBER_SNR},
    {.name = "snr_x0", .prediction = SCHEDULER_SAMPLE, .weighting = WEIGHTING_SNR},
    {.name = "truncated_snr_v", .prediction = SCHEDULER_V_PREDICTION, .weighting = WEIGHTING_TRUNCATED_SNR},
    {.name = "min_snr", .weighting = WEIGHTING_MIN_SNR},
    {.name = "min_snr_v", .prediction = SCHEDULER_V_PREDICTION, .weighting = WEIGHTING_MIN_SNR},
    {.name = "p2", .weighting = WEIGHTING_P2},
    {.name = "noise_offset", .offset = 0.1f},
    {.name = "input_perturbation", .perturbation = 0.1f, .offset = 0.05f},
    {.name = "logit_normal", .draw = DRAW_LOGIT_NORMAL},
    {.name = "mode_stratified", .draw = DRAW_MODE, .stratified = true},
    {.name = "log_normal", .prediction = SCHEDULER_V_PREDICTION, .draw = DRAW_LOG_NORMAL},
    {.name = "stratified", .stratified = true},
    {.name = "zero_snr_v", .prediction = SCHEDULER_V_PREDICTION, .zero_snr = true},
    {.name = "edm", .process = SCHEDULER_CLASS_EDM_EULER, .draw = DRAW_LOG_NORMAL},
    {.name = "edm_v",
     .process = SCHEDULER_CLASS_EDM_EULER,
     .draw = DRAW_LOG_NORMAL,
     .prediction = SCHEDULER_V_PREDICTION},
    {.name = "by_loss", .draw = DRAW_LOSS_SECOND_MOMENT, .T = 4},
    {.name = "by_loss", .draw = DRAW_LOSS_SECOND_MOMENT, .T = 4, .micro_batches = 2}, /* the same draws */
    {.name = "vp", .process = SCHEDULER_CLASS_SDE_VP},
    {.name = "ve", .process = SCHEDULER_CLASS_SDE_VE},
    {.name = "flow", .process = SCHEDULER_CLASS_FLOW_EULER, .prediction = SCHEDULER_FLOW, .shift = 1},
    {.name = "flow_shifted",
     .process = SCHEDULER_CLASS_FLOW_EULER,
     .prediction = SCHEDULER_FLOW,
     .draw = DRAW_LOGIT_NORMAL,
     .shift = 3},
    {.name = "hybrid", .learned = true},
    {.name = "hybrid_v_min_snr", .learned = true, .prediction = SCHEDULER_V_PREDICTION, .weighting = WEIGHTING_MIN_SNR},
    {.name = "hybrid_x0_huber", .learned = true, .prediction = SCHEDULER_SAMPLE, .loss = LOSS_HUBER},
    {.name = "vlb", .learned = true, .kl = true},
    {.name = "vlb_v", .learned = true, .kl = true, .prediction = SCHEDULER_V_PREDICTION},
};

static err why; /* each test is a process of its own */

typedef struct rig {
    backend *be;
    model *m;
    trainer *t;
    uint8_t *images;
} rig;

static void set_up(rig *r, const variant *v)
{
    const network net = trajectory_net(v->learned);
    scheduler_config process = scheduler_config_of(v->process);
    const int micro_batches = v->micro_batches ? v->micro_batches : 1;
    trainer_spec spec = {.batch = BATCH / micro_batches,
                         .h = SIDE,
                         .w = SIDE,
                         .micro_batches = micro_batches,
                         .objective = objective_default(),
                         .timesteps = timestep_draw_default(),
                         .noise_offset = v->offset,
                         .input_perturbation = v->perturbation,
                         .seed = 0x0123456789ABCDEFu};
    spec.objective.loss = v->loss;
    spec.objective.huber_schedule = v->huber;
    spec.objective.weighting = v->weighting;
    spec.objective.learned = v->learned, spec.objective.kl = v->kl;
    spec.objective.bound = v->kl ? 1000 : 1;
    spec.timesteps.kind = v->draw;
    spec.timesteps.stratified = v->stratified;
    spec.update.update.lr = (lr_rule){.peak = 1e-3, .schedule = LR_CONSTANT_WITH_WARMUP, .warmup_steps = 10};
    spec.update.update.beta1 = 0.9, spec.update.update.beta2 = 0.999;
    spec.update.update.eps = 1e-8, spec.update.update.max_grad_norm = 1;
    process.num_train_timesteps = v->T ? v->T : 1000;
    if (v->process == SCHEDULER_CLASS_SDE_VE) process.sigma_min = 0.02, process.sigma_max = 100;
    process.prediction_type = v->prediction;
    process.rescale_betas_zero_snr = v->zero_snr;
    process.flow_shift = v->shift;
    r->be = test_backend(1);
    OK(model_create(r->be, &net, &process, &r->m, &why));
    OK(trainer_create(r->m, &spec, &r->t, &why));
    OK(trainer_allocate(r->t, &why));
    trajectory_weights(r->m, v->learned);
    safetensors *images = golden_open("trajectory/images.safetensors");
    r->images = golden_u8(images, "images", NULL);
    safetensors_close(images);
}

static void tear_down(rig *r)
{
    mem_free(r->images);
    trainer_destroy(r->t);
    model_destroy(r->m);
    backend_destroy(r->be);
}

static double *column(const safetensors *io, const variant *v, const char *what)
{
    char name[80];
    int64_t n;
    (void)snprintf(name, sizeof name, "%s.%s", v->name, what);
    double *values = golden_f64(io, name, &n);
    cr_assert_eq(n, STEPS);
    return values;
}

/* Step k; the sum of the squared errors since the first step goes to *errors. */
static train_state take_step(rig *r, const variant *v, int k, double *errors)
{
    uint8_t batch[BATCH * PIXELS];
    train_state s;
    for (int b = 0; b < BATCH; b++)
        memcpy(batch + (size_t)b * PIXELS, r->images + (size_t)((k * BATCH + b) % IMAGES) * PIXELS, PIXELS);
    const int parts = v->micro_batches ? v->micro_batches : 1;
    for (int i = 0; i < parts; i++)
        OK(trainer_accumulate(r->t, batch + (size_t)i * BATCH / (size_t)parts * PIXELS, NULL, &why));
    OK(trainer_update(r->t, &why));
    OK(trainer_state(r->t, &s, &why));
    *errors = 0;
    for (int i = 0; i < TRAIN_LEVELS; i++) *errors += s.level_error[i] / BATCH;
    return s;
}

static double off(double ours, double theirs) { return fabs(ours - theirs) / fabs(theirs); }

ParameterizedTestParameters(loss_trajectory, matches_pytorch)
{
    return cr_make_param_array(variant, (void *)(uintptr_t)variants, sizeof variants / sizeof *variants);
}
ParameterizedTest(const variant *v, loss_trajectory, matches_pytorch)
{
    rig r = {0};
    safetensors *io;
    double loss = 0, error = 0, norm = 0, errors = 0, before = 0, *vb = NULL, bound = 0, bounds = 0;
    OK(safetensors_open("tests/train/loss_trajectories.safetensors", &io, &why));
    double *losses = column(io, v, "losses"), *want = column(io, v, "errors"), *norms = column(io, v, "grad_norms");
    if (v->learned) vb = column(io, v, "vb");
    set_up(&r, v);
    for (int k = 0; k < STEPS; k++) {
        const train_state s = take_step(&r, v, k, &errors);
        loss = fmax(loss, off((double)s.loss, losses[k]));
        error = fmax(error, off(errors - before, want[k]));
        norm = fmax(norm, off((double)s.grad_norm, norms[k]));
        before = errors;
        if (vb) bound = fmax(bound, off(s.interval_vb / BATCH - bounds, vb[k]));
        bounds = s.interval_vb / BATCH;
    }
    cr_log_info("%s: losses off by %.1e, errors by %.1e, norms by %.1e", v->name, loss, error, norm);
    cr_expect_leq(loss, test_network_bound(3e-6, 2e-2), "%s: a loss is off by %.2e", v->name, loss);
    cr_expect_leq(error, test_network_bound(3e-6, 2e-2), "%s: an error is off by %.2e", v->name, error);
    cr_expect_leq(norm, test_network_bound(1e-5, 6e-2), "%s: a gradient norm is off by %.2e", v->name, norm);
    cr_expect_leq(bound, test_network_bound(1e-5, 6e-2), "%s: a bound is off by %.2e", v->name, bound);
    mem_free(vb);
    mem_free(losses);
    mem_free(want);
    mem_free(norms);
    safetensors_close(io);
    tear_down(&r);
}
