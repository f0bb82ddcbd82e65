/* Whole training steps and sampling loops of the cuda backend's own host code on the emulated device, against the cpu
 * backend and against the same code with every optimization disabled. */
#include "backend/cuda/cuda_backend.h"
#include "base/mem.h"
#include "emu/emu_control.h"
#include "support/ok.h"
#include "sample/generator.h"
#include "train/trainer.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { H = 6, W = 10, C = 3, BATCH = 2, IMAGES = 7, STEPS = 12, FEW = 5, ROWS = 4 };

/* Two levels, so 3x5 pixels at the bottom; attention up, down and in the middle; both kinds of time conditioning. */
static network small_net(bool scale_shift, bool tiny)
{
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    net.unet.sample_size_h = H, net.unet.sample_size_w = W;
    net.unet.in_channels = net.unet.out_channels = C;
    net.unet.n_block = 2;
    net.unet.block[0] = (unet_block){tiny ? 2 : 8, UNET_DOWN, UNET_ATTN_UP};
    net.unet.block[1] = (unet_block){tiny ? 4 : 16, UNET_ATTN_DOWN, UNET_UP};
    net.unet.layers_per_block = 1;
    net.unet.attention_head_dim = tiny ? 0 : 8;
    net.unet.norm_num_groups = tiny ? 2 : 4;
    net.unet.dropout = 0.1;
    net.unet.time_scale_shift = scale_shift ? UNET_SHIFT_SCALE : UNET_SHIFT_DEFAULT;
    return net;
}

typedef struct setup {
    const char *device;
    precision_kind precision;
    unsigned disabled;
    int steps, micro_batches;
    bool scale_shift, resident;
    bool tiny;   /* a narrower network */
    int stop_at; /* > 0: after so many steps state and arenas go through the host, as with a checkpoint */
} setup;

typedef struct outcome {
    float loss[STEPS];
    float *weights, *ema; /* [count]: every parameter, in the order of the names */
    size_t count;
    float image[2][H * W * C];
    train_state state;
    long calls; /* calls of the runtime until all results were there */
} outcome;

typedef struct engine {
    backend *be;
    model *m;
    trainer *t;
    generator *g;
} engine;

static void close_engine(engine *x)
{
    generator_destroy(x->g);
    trainer_destroy(x->t);
    model_destroy(x->m);
    backend_destroy(x->be);
    *x = (engine){0};
}

static uint8_t pixel(int64_t picture, int i) { return (uint8_t)(picture * 37 + i * 11 + i * i % 97); }

static void picture(int64_t which, uint8_t *to)
{
    for (int i = 0; i < H * W * C; i++) to[i] = pixel(which, i);
}

static ddpm_status open_engine(engine *x, const setup *s, err *e)
{
    const network net = small_net(s->scale_shift, s->tiny);
    const scheduler_config scheduler = scheduler_config_default();
    trainer_spec spec = {.batch = BATCH,
                         .h = H,
                         .w = W,
                         .micro_batches = s->micro_batches,
                         .resident = s->resident ? IMAGES : 0,
                         .flip = true,
                         .seed = 5};
    spec.update.update.lr.peak = 2e-3;
    spec.update.update.beta1 = 0.9, spec.update.update.beta2 = 0.999, spec.update.update.eps = 1e-8;
    spec.update.update.max_grad_norm = 1;
    spec.update.update.ema[0] = (ema_rule){.kind = EMA_CONSTANT, .decay = 0.9};
    TRY(backend_create(
        &(backend_spec){.device = s->device, .threads = 2, .precision = s->precision, .disabled = s->disabled}, &x->be,
        e));
    TRY(model_create(x->be, &net, &scheduler, &x->m, e));
    TRY(trainer_create(x->m, &spec, &x->t, e));
    TRY(trainer_allocate(x->t, e));
    if (!s->resident) return DDPM_OK;
    for (int64_t i = 0; i < IMAGES; i++) {
        uint8_t one[H * W * C];
        picture(i, one);
        TRY(trainer_store(x->t, i, 1, one, NULL, e));
    }
    return DDPM_OK;
}

static ddpm_status give_batch(engine *x, const setup *s, int64_t first, err *e)
{
    int64_t index[BATCH];
    uint8_t images[BATCH * H * W * C];
    for (int b = 0; b < BATCH; b++) {
        index[b] = (first + b) * 3 % IMAGES;
        picture(index[b], images + b * H * W * C);
    }
    return s->resident ? trainer_accumulate_stored(x->t, index, e) : trainer_accumulate(x->t, images, NULL, e);
}

static ddpm_status train(engine *x, const setup *s, int from, int to, err *e)
{
    for (int i = from; i < to; i++) {
        for (int k = 0; k < s->micro_batches; k++)
            TRY(give_batch(x, s, (int64_t)(i * s->micro_batches + k) * BATCH, e));
        TRY(trainer_update(x->t, e));
    }
    return DDPM_OK;
}

/* Copies everything that a checkpoint contains to the host and into a new engine. */
static ddpm_status restart(engine *x, const setup *s, err *e)
{
    static const arena_kind kept[] = {ARENA_PARAM, ARENA_M, ARENA_V, ARENA_EMA};
    const size_t count = x->m->store->count;
    float *host[4] = {NULL};
    train_state state;
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < 4; i++) {
        TRY_GOTO(mem_array(&host[i], count, sizeof(float), "test", e));
        TRY_GOTO(params_get(x->m->store, kept[i], host[i], e));
    }
    TRY_GOTO(trainer_state(x->t, &state, e));
    close_engine(x);
    TRY_GOTO(open_engine(x, s, e));
    for (int i = 0; i < 4; i++) TRY_GOTO(params_set(x->m->store, kept[i], host[i], e));
    TRY_GOTO(trainer_restore(x->t, &state, e));
done:
    for (int i = 0; i < 4; i++) mem_free(host[i]);
    return st;
}

static ddpm_status sample(engine *x, const setup *s, outcome *o, err *e)
{
    const int64_t ids[2] = {3, 4};
    const generator_spec spec = {.batch = 2,
                                 .h = H,
                                 .w = W,
                                 .sampler = {.steps = s->tiny ? 3 : ROWS},
                                 .weights = ARENA_EMA,
                                 .seed = 9,
                                 .scheduler = x->m->scheduler};
    TRY(generator_create(x->m, &spec, &x->g, e));
    TRY(generator_allocate(x->g, e));
    for (int i = 0; i < (s->tiny ? 1 : 2); i++)
        TRY(generator_run(x->g, &(generator_batch){.n = 2, .ids = ids}, o->image[0], e)); /* captured the second time */
    return DDPM_OK;
}

static int by_name(const void *a, const void *b)
{
    const param *const *p = a, *const *q = b;
    return strcmp((*p)->name, (*q)->name);
}

/* Parameters by name: their order in an arena depends on which parameters share a tensor. */
static ddpm_status read_by_name(const params *store, arena_kind arena, float **out, size_t *count, err *e)
{
    const param **list = NULL;
    float *host = NULL;
    ddpm_status st = DDPM_OK;
    *count = 0;
    TRY_GOTO(mem_array(&list, (size_t)store->n, sizeof *list, "test", e));
    TRY_GOTO(mem_array(&host, store->count, sizeof *host, "test", e));
    TRY_GOTO(mem_array(out, store->count, sizeof **out, "test", e));
    TRY_GOTO(params_get(store, arena, host, e));
    for (int i = 0; i < store->n; i++) list[i] = &store->list[i];
    qsort(list, (size_t)store->n, sizeof *list, by_name);
    for (int i = 0; i < store->n; i++) {
        const size_t size = (size_t)param_count(list[i]);
        memcpy(*out + *count, host + list[i]->offset, size * sizeof **out);
        *count += size;
    }
done:
    mem_free(host);
    mem_free(list);
    return st;
}

static ddpm_status read_results(engine *x, const setup *s, outcome *o, err *e)
{
    train_record history[TRAIN_HISTORY];
    TRY(trainer_history(x->t, history, e));
    for (int i = s->stop_at; i < s->steps; i++) o->loss[i] = history[i].loss;
    TRY(trainer_state(x->t, &o->state, e));
    TRY(read_by_name(x->m->store, ARENA_PARAM, &o->weights, &o->count, e));
    return read_by_name(x->m->store, ARENA_EMA, &o->ema, &o->count, e);
}

static ddpm_status everything(const setup *s, outcome *o, err *e)
{
    engine x = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(open_engine(&x, s, e));
    TRY_GOTO(params_init(x.m->store, 1, e));
    TRY_GOTO(train(&x, s, 0, s->stop_at ? s->stop_at : s->steps, e));
    if (s->stop_at) {
        TRY_GOTO(restart(&x, s, e));
        TRY_GOTO(train(&x, s, s->stop_at, s->steps, e));
    }
    TRY_GOTO(read_results(&x, s, o, e));
    TRY_GOTO(sample(&x, s, o, e));
    o->calls = emu_calls();
done:
    close_engine(&x);
    return st;
}

static void forget(outcome *o)
{
    mem_free(o->weights);
    mem_free(o->ema);
    *o = (outcome){0};
}

static outcome run(const setup *s)
{
    outcome o = {0};
    err why = {0};
    OK(everything(s, &o, &why));
    cr_log_info("%ld calls of the device", emu_calls());
    cr_expect_eq(emu_live_total(), 0, "%d things of the device are left", emu_live_total());
    cr_expect_eq(o.state.step, (uint64_t)s->steps);
    cr_expect_eq(o.state.skipped, 0);
    return o;
}

/* The root mean square of a - b divided by that of b. */
static double distance(const float *a, const float *b, size_t n)
{
    double sum = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        const double d = (double)a[i] - (double)b[i];
        sum += d * d;
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(sum / size);
}

typedef struct bounds {
    double loss, weights, image;
} bounds;

static void expect_close(const outcome *a, const outcome *b, int steps, bounds limit)
{
    const double loss = distance(a->loss, b->loss, (size_t)steps), weights = distance(a->weights, b->weights, a->count);
    const double ema = distance(a->ema, b->ema, a->count), image = distance(a->image[0], b->image[0], 2 * H * W * C);
    cr_log_info("loss %.2e, weights %.2e, ema %.2e, images %.2e", loss, weights, ema, image);
    cr_expect(loss <= limit.loss, "losses differ by %.2e", loss);
    cr_expect(weights <= limit.weights, "weights differ by %.2e", weights);
    cr_expect(ema <= limit.weights, "averaged weights differ by %.2e", ema);
    cr_expect(image <= limit.image, "images differ by %.2e", image);
}

static void expect_same_bits(const outcome *a, const outcome *b, const setup *s)
{
    const size_t steps = (size_t)(s->steps - s->stop_at) * sizeof(float);
    cr_expect_arr_eq(a->loss + s->stop_at, b->loss + s->stop_at, steps);
    cr_expect_arr_eq(a->weights, b->weights, a->count * sizeof(float));
    cr_expect_arr_eq(a->ema, b->ema, a->count * sizeof(float));
    cr_expect_arr_eq(a->image, b->image, sizeof a->image);
}

static const setup cpu = {.device = "cpu", .steps = STEPS, .micro_batches = 1};
static const setup cuda = {.device = "cuda", .precision = PRECISION_FP32, .steps = STEPS, .micro_batches = 1};

static void compare_with_cpu(setup s, bounds limit)
{
    setup plain = cpu;
    plain.steps = s.steps, plain.scale_shift = s.scale_shift, plain.micro_batches = s.micro_batches;
    outcome a = run(&s), b = run(&plain);
    if (s.steps == STEPS)
        cr_expect_lt(b.loss[STEPS - 1], 0.9f * b.loss[0], "nothing was learned: %g after %g", (double)b.loss[STEPS - 1],
                     (double)b.loss[0]);
    expect_close(&a, &b, s.steps, limit);
    forget(&a);
    forget(&b);
}

Test(cuda_train, agrees_with_the_cpu_in_fp32, .timeout = 900) { compare_with_cpu(cuda, (bounds){1e-5, 1e-3, 1e-3}); }

Test(cuda_train, agrees_with_the_cpu_in_bf16, .timeout = 900)
{
    setup s = cuda;
    s.precision = PRECISION_BF16;
    s.steps = FEW;
    compare_with_cpu(s, (bounds){5e-3, 3e-2, 3e-2});
}

Test(cuda_train, agrees_with_the_cpu_with_scale_and_shift, .timeout = 900)
{
    setup s = cuda;
    s.scale_shift = true;
    s.steps = FEW;
    compare_with_cpu(s, (bounds){1e-5, 1e-3, 1e-3});
}

Test(cuda_train, agrees_with_the_cpu_over_micro_batches, .timeout = 900)
{
    setup s = cuda;
    s.micro_batches = 2;
    s.steps = FEW;
    compare_with_cpu(s, (bounds){1e-5, 1e-3, 1e-3});
}

/* Expects the same bits as without `other`'s changes, in bf16. */
static void expect_no_change(setup other)
{
    setup s = cuda;
    s.precision = other.precision = PRECISION_BF16;
    s.steps = other.steps = FEW;
    outcome a = run(&s), b = run(&other);
    expect_same_bits(&a, &b, &other);
    forget(&a);
    forget(&b);
}

static setup without(unsigned disabled)
{
    setup s = cuda;
    s.disabled = disabled;
    return s;
}

Test(cuda_train, graphs_change_no_bit, .timeout = 900) { expect_no_change(without(CUDA_OPT_GRAPH)); }
Test(cuda_train, side_streams_change_no_bit, .timeout = 900) { expect_no_change(without(CUDA_OPT_SIDE)); }
Test(cuda_train, loops_change_no_bit, .timeout = 900) { expect_no_change(without(CUDA_OPT_LOOP)); }

Test(cuda_train, a_resident_data_set_changes_no_bit, .timeout = 900)
{
    setup s = cuda;
    s.resident = true;
    expect_no_change(s);
}

Test(cuda_train, a_restart_changes_no_bit, .timeout = 900)
{
    setup s = cuda;
    s.stop_at = 3;
    expect_no_change(s);
}

/* Detects a step that reads data before the side stream has written them, or overwrites data that it still reads. */
Test(cuda_train, the_moment_of_side_work_changes_no_bit, .timeout = 1800)
{
    setup s = cuda;
    s.precision = PRECISION_BF16;
    s.steps = 4;
    outcome a = run(&s);
    for (int t = EMU_SIDE_EARLY; t <= EMU_ALL_LATE; t++) {
        for (int eager = 0; eager < 2; eager++) {
            setup other = s;
            other.disabled = eager ? CUDA_OPT_GRAPH : 0;
            emu_set_timing((emu_timing)t);
            outcome b = run(&other);
            expect_same_bits(&a, &b, &other);
            forget(&b);
        }
    }
    emu_reset();
    forget(&a);
}

static const struct {
    const char *word;
    unsigned bit;
} switches[] = {
#define OPTIMIZATION(NAME, word, bit) {#word, bit},
    CUDA_OPT_LIST(OPTIMIZATION)
#undef OPTIMIZATION
};
enum {
    SWITCHES = sizeof switches / sizeof *switches,
    SAME_ARITHMETIC = CUDA_OPT_GRAPH | CUDA_OPT_SIDE | CUDA_OPT_TUNING | CUDA_OPT_LOOP,
    SAME_FORWARD = CUDA_OPT_BIAS_SUMS | CUDA_OPT_PROJECTIONS /* the first loss has the same bits */
};

static unsigned every_switch(void)
{
    unsigned all = 0;
    for (int i = 0; i < SWITCHES; i++) all |= switches[i].bit;
    return all;
}

/* Disables each of these optimizations alone, then all that exist, and compares with the full run and with the cpu.
 * Optimizations that run the same operations elsewhere or at another time change no bit; the others change only
 * roundings: they use other operations, or the same ones in another order. */
static void leave_out_each(setup s, unsigned these, bounds limit)
{
    setup plain = cpu;
    plain.steps = s.steps, plain.micro_batches = s.micro_batches;
    outcome full = run(&s), reference = run(&plain);
    for (int i = 0; i <= SWITCHES; i++) {
        setup other = s;
        other.disabled = i < SWITCHES ? switches[i].bit : every_switch();
        if (i < SWITCHES && !(these & other.disabled)) continue;
        cr_log_info("without %s", i < SWITCHES ? switches[i].word : "any");
        outcome o = run(&other);
        if (!(other.disabled & ~(unsigned)SAME_ARITHMETIC)) expect_same_bits(&full, &o, &other);
        if (!(other.disabled & ~(unsigned)(SAME_ARITHMETIC | SAME_FORWARD)))
            cr_expect_arr_eq(full.loss, o.loss, sizeof *o.loss);
        expect_close(&full, &o, s.steps, limit);
        expect_close(&o, &reference, s.steps, limit);
        forget(&o);
    }
    forget(&full);
    forget(&reference);
}

Test(cuda_train, every_optimization_can_be_left_out, .timeout = 3600)
{
    setup s = cuda;
    s.steps = 3;
    leave_out_each(s, every_switch(), (bounds){1e-5, 1e-3, 1e-3});
}

/* With micro-batches every gradient of a weight is accumulated. */
Test(cuda_train, sums_of_micro_batches_need_no_beta, .timeout = 3600)
{
    setup s = cuda;
    s.steps = 3, s.micro_batches = 2;
    leave_out_each(s, CUDA_OPT_BETA, (bounds){1e-5, 1e-3, 1e-3});
}

Test(cuda_train, what_rounds_in_bf16_can_be_left_out, .timeout = 3600)
{
    setup s = cuda;
    s.precision = PRECISION_BF16;
    s.steps = 3;
    leave_out_each(s, CUDA_OPT_SDPA | CUDA_OPT_CONCAT | CUDA_OPT_PROJECTIONS | CUDA_OPT_BETA,
                   (bounds){5e-3, 3e-2, 3e-2});
}

/* Fails every call during creation, then every 13th; with $DDPM_TEST_LONG every call. */
static long next_call(long n)
{
    enum { MAKING = 400, STRIDE = 13 };
    return n + (n < MAKING || getenv("DDPM_TEST_LONG") ? 1 : STRIDE);
}

Test(cuda_train, every_call_of_the_device_may_fail, .timeout = 7200)
{
    setup s = {.device = "cuda",
               .precision = PRECISION_BF16,
               .disabled = CUDA_OPT_TUNING, /* test_cuda_tune.c fails its calls */
               .steps = 2,
               .micro_batches = 1,
               .tiny = true};
    err why = {0};
    outcome o = {0};
    OK(everything(&s, &o, &why));
    forget(&o);
    cr_log_info("%ld calls in all", emu_calls());
    long n = 1;
    int got_by = 0; /* failures that were tolerated: a loop that CUDA refuses runs one iteration at a time */
    for (;; n = next_call(n)) {
        emu_reset();
        emu_fail_at(n);
        why = (err){0};
        const ddpm_status st = everything(&s, &o, &why);
        const bool reached = emu_calls() >= n, afterwards = n > o.calls; /* during destruction */
        forget(&o);
        cr_assert_eq(emu_live_total(), 0, "call %ld: %d things of the device are left (%s)", n, emu_live_total(),
                     why.text);
        if (!reached) break;
        if (st == DDPM_OK) {
            got_by += !afterwards;
            continue;
        }
        cr_assert(st == DDPM_EBACKEND || st == DDPM_ENOMEM || st == DDPM_EDEVICE, "call %ld: %s %s", n, err_name(st),
                  why.text);
        cr_assert(strstr(why.text, "emulated failure"), "call %ld: %s", n, why.text);
    }
    emu_reset();
    cr_log_info("%ld calls, %d got by without", n - 1, got_by);
    cr_expect(got_by == 1 || (got_by == 0 && !getenv("DDPM_TEST_LONG")), "%d got by without", got_by);
    cr_assert_gt(n, 500);
}
