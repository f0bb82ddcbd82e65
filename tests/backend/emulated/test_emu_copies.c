/* What the cuda backend derives from the weights (the low-precision copy, the folded filters of upconv), on the emulated
 * device: it matches the current weights, whoever changed these, and the memory estimates include it. */
#include "backend/cuda/cuda_backend.h"
#include "base/mem.h"
#include "emu/emu_control.h"
#include "math/bf16.h"
#include "nn/nn.h"
#include "support/device.h"
#include "support/ok.h"
#include "train/trainer_fit.h"
#include "sample/generator.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { SIDE = 8, PIXELS = SIDE * SIDE, UPCONVS = 2 };

static err why; /* each test runs in its own process */

static void nothing_is_left(void) { cr_expect_eq(emu_live_total(), 0); }
TestSuite(emu_copies, .fini = nothing_is_left, .timeout = 900);

typedef struct engine {
    backend *be;
    model *m;
    params *store; /* of the model */
    trainer *t;
    generator *g[2]; /* g[0] samples with the weights, g[1] with the EMA */
} engine;

static network three_levels(void)
{
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    net.unet.sample_size_h = net.unet.sample_size_w = SIDE;
    net.unet.in_channels = net.unet.out_channels = 1;
    net.unet.n_block = UPCONVS + 1;
    for (int i = 0; i < net.unet.n_block; i++) net.unet.block[i] = (unet_block){i ? 6 : 2, UNET_DOWN, UNET_UP};
    net.unet.layers_per_block = 1;
    net.unet.norm_num_groups = 2;
    net.unet.attention_head_dim = 0;
    return net;
}

static void open_model(engine *x, precision_kind precision, unsigned disabled)
{
    const network net = three_levels();
    const scheduler_config scheduler = scheduler_config_default();
    const backend_spec spec = {.device = "cuda", .precision = precision, .disabled = disabled | CUDA_OPT_TUNING};
    OK(backend_create(&spec, &x->be, &why));
    OK(model_create(x->be, &net, &scheduler, &x->m, &why));
    x->store = x->m->store;
}

static void open_trainer(engine *x, int micro_batches)
{
    trainer_spec spec = {.batch = 1, .h = SIDE, .w = SIDE, .micro_batches = micro_batches, .seed = 5};
    spec.update.update.lr.peak = 2e-2;
    spec.update.update.beta1 = 0.9, spec.update.update.beta2 = 0.999, spec.update.update.eps = 1e-8;
    spec.update.update.ema[0] = (ema_rule){.kind = EMA_CONSTANT, .decay = 0.7};
    OK(trainer_create(x->m, &spec, &x->t, &why));
}

static void open_generator(engine *x, arena_kind weights)
{
    const generator_spec spec = {.batch = 1,
                                 .h = SIDE,
                                 .w = SIDE,
                                 .sampler = {.steps = 2},
                                 .seed = 9,
                                 .weights = weights,
                                 .scheduler = x->m->scheduler};
    OK(generator_create(x->m, &spec, &x->g[weights == ARENA_EMA], &why));
}

static engine create(precision_kind precision, int micro_batches)
{
    engine x = {0};
    open_model(&x, precision, 0);
    open_trainer(&x, micro_batches);
    OK(trainer_allocate(x.t, &why));
    OK(params_init(x.store, 1, &why));
    for (int i = 0; i < 2; i++) {
        open_generator(&x, i ? ARENA_EMA : ARENA_PARAM);
        OK(generator_allocate(x.g[i], &why));
    }
    return x;
}

static void destroy(engine *x)
{
    for (int i = 0; i < 2; i++) generator_destroy(x->g[i]);
    trainer_destroy(x->t);
    model_destroy(x->m);
    backend_destroy(x->be);
}

static void train(engine *x, int steps, int micro_batches)
{
    uint8_t image[PIXELS];
    for (int i = 0; i < PIXELS; i++) image[i] = (uint8_t)(i * 29 + i * i % 83);
    for (int i = 0; i < steps; i++) {
        for (int k = 0; k < micro_batches; k++) OK(trainer_accumulate(x->t, image, NULL, &why));
        OK(trainer_update(x->t, &why));
    }
}

static void sample(engine *x, arena_kind weights, float picture[PIXELS])
{
    const int64_t id = 3;
    OK(generator_run(x->g[weights == ARENA_EMA], &(generator_batch){.n = 1, .ids = &id}, picture, &why));
}

/* ---- do the copies match the weights? ---- */

static void *copy_of(const engine *x, arena_kind arena, size_t count)
{
    void *copy;
    cr_assert_not_null(x->store->arena[arena]);
    OK(mem_array(&copy, count, dtype_size(x->be->act), "test", &why));
    OK(x->be->fn->download(x->be, copy, x->store->arena[arena], count * dtype_size(x->be->act), &why));
    return copy;
}

static void expect_current(const engine *x, arena_kind arena, const char *when)
{
    if (x->be->act == DTYPE_F32) return;
    float *w = test_params(x->store, arena);
    void *low = copy_of(x, arena == ARENA_EMA ? ARENA_EMA_LOW : ARENA_PARAM_LOW, x->store->count);
    for (size_t i = 0; i < x->store->count; i++)
        cr_assert_eq(((const bf16 *)low)[i].bits, bf16_of(w[i]).bits, "%s, element %zu", when, i);
    mem_free(low);
    mem_free(w);
}

static const struct {
    precision_kind precision;
    int micro_batches;
} ways[] = {{PRECISION_FP32, 1}, {PRECISION_BF16, 1}, {PRECISION_BF16, 2}};
enum { WAYS = sizeof ways / sizeof *ways };

Test(emu_copies, follow_the_weights_through_training_and_sampling)
{
    float picture[PIXELS];
    for (int i = 0; i < WAYS; i++) {
        const int micro_batches = ways[i].micro_batches;
        engine x = create(ways[i].precision, micro_batches);
        for (int k = 0; k < 3; k++) { /* eager, captured, replayed */
            train(&x, 1, micro_batches);
            expect_current(&x, ARENA_PARAM, "after a step");
        }
        sample(&x, ARENA_EMA, picture);
        expect_current(&x, ARENA_EMA, "after sampling");
        expect_current(&x, ARENA_PARAM, "after sampling");
        train(&x, 2, micro_batches);
        expect_current(&x, ARENA_PARAM, "after more steps");
        sample(&x, ARENA_EMA, picture);
        expect_current(&x, ARENA_EMA, "after sampling again");
        destroy(&x);
    }
}

Test(emu_copies, follow_weights_set_from_outside)
{
    static const arena_kind arenas[] = {ARENA_PARAM, ARENA_EMA};
    float picture[PIXELS];
    engine x = create(PRECISION_BF16, 1);
    train(&x, 3, 1);
    for (int i = 0; i < 2; i++) {
        sample(&x, arenas[i], picture);
        float *w = test_params(x.store, arenas[i]);
        for (size_t k = 0; k < x.store->count; k++) w[k] *= 1.25f;
        OK(params_set(x.store, arenas[i], w, &why));
        OK(params_refresh(x.store, arenas[i], &why));
        expect_current(&x, arenas[i], "after params_set()");
        mem_free(w);
    }
    OK(params_init(x.store, 2, &why));
    for (int i = 0; i < 2; i++) {
        sample(&x, arenas[i], picture);
        expect_current(&x, arenas[i], "after params_init()");
    }
    destroy(&x);
}

/* A refresh without copies to compute does not count for copies that are allocated later. */
Test(emu_copies, are_made_where_they_come_late)
{
    static const arena_kind arenas[] = {ARENA_PARAM, ARENA_EMA};
    engine x = {0};
    open_model(&x, PRECISION_BF16, 0);
    OK(params_allocate(x.store, false, true, &why));
    OK(params_init(x.store, 1, &why));
    for (int i = 0; i < 2; i++) {
        OK(params_refresh(x.store, arenas[i], &why));
        open_generator(&x, arenas[i]);
        OK(generator_allocate(x.g[i], &why));
        OK(params_refresh(x.store, arenas[i], &why));
        expect_current(&x, arenas[i], "after the first refresh of copies");
    }
    destroy(&x);
}

/* Tests the memory that the plans read: an image sampled after a training with the same engine equals, bit for bit, one
 * sampled from the same weights in another engine, as after a restart.  Both have sampled before. */
Test(emu_copies, pictures_are_those_of_the_current_weights)
{
    static const arena_kind arenas[] = {ARENA_PARAM, ARENA_EMA};
    for (int i = 0; i < WAYS; i++) {
        float here[2][PIXELS], there[2][PIXELS], before[PIXELS];
        engine x = create(ways[i].precision, ways[i].micro_batches), y = create(ways[i].precision, 1);
        for (int k = 0; k < 2; k++) sample(&x, arenas[k], before), sample(&y, arenas[k], before);
        train(&x, 3, ways[i].micro_batches);
        for (int k = 0; k < 2; k++) {
            float *w = test_params(x.store, arenas[k]);
            OK(params_set(y.store, arenas[k], w, &why));
            mem_free(w);
        }
        for (int k = 0; k < 2; k++) sample(&x, arenas[k], here[k]), sample(&y, arenas[k], there[k]);
        cr_expect_arr_eq(here, there, sizeof here);
        cr_expect_neq(memcmp(here[0], before, sizeof before), 0, "training has changed no picture");
        cr_expect_neq(memcmp(here[0], here[1], sizeof before), 0, "the EMA's picture is that of the weights");
        destroy(&y);
        destroy(&x);
    }
}

/* The network's output is checked for NaN and infinity on a device too, in either precision. */
Test(emu_copies, pictures_that_are_not_finite_are_named)
{
    static const precision_kind precisions[] = {PRECISION_FP32, PRECISION_BF16};
    for (int i = 0; i < 2; i++) {
        float picture[PIXELS];
        const int64_t id = 3;
        engine x = create(precisions[i], 1);
        sample(&x, ARENA_PARAM, picture);
        float *w = test_params(x.store, ARENA_PARAM);
        const param *bias = params_find(x.store, "conv_out.bias");
        cr_assert_not_null(bias);
        w[bias->offset] = NAN;
        OK(params_set(x.store, ARENA_PARAM, w, &why));
        mem_free(w);
        cr_expect_eq(generator_run(x.g[0], &(generator_batch){.n = 1, .ids = &id}, picture, &why), DDPM_EDIVERGED);
        cr_expect_not_null(strstr(why.text, "picture 3: the network's output at step 2 of 2"), "%s", why.text);
        destroy(&x);
    }
}

/* ---- memory ---- */

/* An arena may exceed the estimate by the alignment of its end. */
static void expect_taken(size_t before, size_t counted)
{
    enum { SLACK = 16 * MEM_ALIGN };
    const size_t taken = emu_live().bytes - before;
    cr_expect(taken >= counted && taken <= counted + SLACK, "%zu bytes were taken, %zu counted", taken, counted);
}

Test(emu_copies, memory_is_counted_with_them)
{
    for (int i = 0; i < WAYS; i++)
        for (int without = 0; without < 2; without++) {
            engine x = {0};
            open_model(&x, ways[i].precision, without ? CUDA_OPT_UPCONV : 0);
            const size_t low = x.be->act == DTYPE_F32 ? 0 : x.store->count * dtype_size(x.be->act);
            cr_expect(params_copy_bytes(x.store) >= low && params_copy_bytes(x.store) <= low + 4 * MEM_ALIGN);
            open_trainer(&x, 1);
            const size_t start = emu_live().bytes;
            OK(trainer_allocate(x.t, &why));
            expect_taken(start, trainer_fit_total(trainer_needs(x.t)));
            const size_t middle = emu_live().bytes;
            open_generator(&x, ARENA_EMA);
            OK(generator_allocate(x.g[1], &why));
            expect_taken(middle, generator_bytes(x.g[1]) + params_copy_bytes(x.store));
            cr_expect_eq(params_copy_bytes_left(x.store, ARENA_EMA), 0);
            destroy(&x);
        }
}

Test(emu_copies, sampling_that_does_not_fit_with_them_is_refused)
{
    engine x = {0};
    open_model(&x, PRECISION_BF16, 0);
    OK(params_allocate(x.store, false, false, &why));
    OK(params_init(x.store, 1, &why));
    open_generator(&x, ARENA_PARAM);
    const size_t need = generator_bytes(x.g[0]) + params_copy_bytes(x.store);
    emu_get_device()->total = emu_live().bytes + need - 1;
    cr_assert_eq(generator_allocate(x.g[0], &why), DDPM_ENOMEM);
    cr_expect(strstr(why.text, "sampling needs"), "%s", why.text);
    emu_get_device()->total = emu_live().bytes + need + 16 * MEM_ALIGN;
    OK(generator_allocate(x.g[0], &why));
    destroy(&x);
}
