#include "train/self_test.h"
#include "backend/autotune_cache.h"
#include "base/device_name.h"
#include "base/mem.h"
#include "base/threads.h"
#include "plan/plan_compare.h"
#include "sample/generator.h"
#include "train/recipe.h"
#include "train/recipe_words.h"
#include "train/trainer.h"

#include <string.h>

enum { BATCH = 3, HEIGHT = 10, WIDTH = 6, CHANNELS = 3, TRAINING_STEPS = 2, SAMPLING_STEPS = 4, WHOLE_RUNS = 3 };
enum { PIXELS = BATCH * HEIGHT * WIDTH * CHANNELS };
static const uint64_t SEED = 1;

typedef struct test {
    backend *be, *cpu;
    plan_bounds bounds;
    model *m;
    trainer *t;
    generator *g;
    float *weights, *again; /* [store->count] */
    uint8_t images[PIXELS];
} test;

static network small_network(void)
{
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    unet_config *u = &net.unet;
    u->sample_size_h = HEIGHT, u->sample_size_w = WIDTH;
    u->in_channels = u->out_channels = CHANNELS;
    u->n_block = 2;
    u->block[0] = (unet_block){32, UNET_DOWN, UNET_ATTN_UP};
    u->block[1] = (unet_block){64, UNET_ATTN_DOWN, UNET_UP};
    u->layers_per_block = 1;
    u->norm_num_groups = 8;
    u->attention_head_dim = 32;
    u->dropout = 0.1;
    return net;
}

/* bf16: rounded to 2^-9 once per result, and sums of rounded factors; f32: other orders of addition. */
static plan_bounds bounds_of(precision_kind precision)
{
    switch (precision) {
    case PRECISION_FP32: return (plan_bounds){0x1p-11f, 0x1p-11f};
    case PRECISION_TF32: return (plan_bounds){0x1p-7f, 0x1p-7f};
    case PRECISION_AUTO:
    case PRECISION_BF16: break;
    }
    return (plan_bounds){0x1p-6f, 0x1p-6f};
}

static ddpm_status open_test(test *s, err *e)
{
    const network net = small_network();
    const scheduler_config scheduler = scheduler_config_default();
    trainer_spec training = {.batch = BATCH, .h = HEIGHT, .w = WIDTH, .micro_batches = 1, .flip = true, .seed = SEED};
    training.update.update.lr.peak = 1e-3, training.update.update.eps = 1e-8;
    training.update.update.beta1 = 0.9, training.update.update.beta2 = 0.999;
    training.update.update.ema[0] = (ema_rule){.kind = EMA_CONSTANT, .decay = 0.9},
    training.update.update.max_grad_norm = 1;
    const generator_spec sampling = {.batch = BATCH,
                                     .h = HEIGHT,
                                     .w = WIDTH,
                                     .sampler = {.steps = SAMPLING_STEPS},
                                     .seed = SEED,
                                     .weights = ARENA_EMA,
                                     .scheduler = scheduler};
    TRY(backend_create(&(backend_spec){.device = "cpu", .threads = 1, .conv = CONV_ALGO_DIRECT}, &s->cpu, e));
    TRY(model_create(s->be, &net, &scheduler, &s->m, e));
    TRY(trainer_create(s->m, &training, &s->t, e));
    TRY(trainer_allocate(s->t, e));
    TRY(generator_create(s->m, &sampling, &s->g, e));
    TRY(generator_allocate(s->g, e));
    TRY(mem_array(&s->weights, s->m->store->count, sizeof *s->weights, "weights", e));
    TRY(mem_array(&s->again, s->m->store->count, sizeof *s->again, "weights", e));
    for (int i = 0; i < PIXELS; i++) s->images[i] = (uint8_t)(i * 37 + i * i % 101);
    return DDPM_OK;
}

static void close_test(test *s)
{
    mem_free(s->weights);
    mem_free(s->again);
    generator_destroy(s->g);
    trainer_destroy(s->t);
    model_destroy(s->m);
    backend_destroy(s->cpu);
}

/* ---- training ---- */

static ddpm_status begin_training(test *s, err *e)
{
    params *store = s->m->store;
    memset(s->again, 0, store->count * sizeof *s->again);
    TRY(params_init(store, SEED, e));
    TRY(params_set(store, ARENA_M, s->again, e));
    TRY(params_set(store, ARENA_V, s->again, e));
    return trainer_restore(s->t, &(train_state){.seed = SEED, .beta1_pow = 1, .beta2_pow = 1}, e);
}

static ddpm_status train(test *s, float *weights, err *e)
{
    TRY(begin_training(s, e));
    for (int i = 0; i < TRAINING_STEPS; i++) TRY(trainer_accumulate(s->t, s->images, NULL, e));
    return params_get(s->m->store, ARENA_PARAM, weights, e);
}

/* The same, step by step beside the CPU; the images are still where the last training uploaded them. */
static ddpm_status train_by_steps(test *s, float *weights, err *e)
{
    TRY(begin_training(s, e));
    for (int i = 0; i < TRAINING_STEPS; i++) {
        TRY(params_refresh(s->m->store, ARENA_PARAM, e));
        TRY(plan_compare(trainer_plan(s->t), s->cpu, s->bounds, e));
    }
    params_touched(s->m->store, ARENA_PARAM);
    return params_get(s->m->store, ARENA_PARAM, weights, e);
}

/* The first training runs eagerly, then captures; later ones replay. */
static ddpm_status test_training(test *s, err *e)
{
    TRY(train(s, s->weights, e));
    for (int run = 0; run < WHOLE_RUNS; run++) {
        TRY(run ? train(s, s->again, e) : train_by_steps(s, s->again, e));
        if (memcmp(s->weights, s->again, s->m->store->count * sizeof *s->again) != 0)
            return err_set(e, DDPM_EDIVERGED,
                           "%d training steps give other weights when their kernels run together than one by one",
                           TRAINING_STEPS);
    }
    return DDPM_OK;
}

/* ---- sampling ---- */

static const int64_t ids[BATCH] = {0, 1, 2};

static ddpm_status compare_sampling(test *s, err *e)
{
    TRY(generator_begin(s->g, &(generator_batch){.n = BATCH, .ids = ids}, e));
    TRY(params_refresh(s->m->store, ARENA_EMA, e));
    TRY(plan_compare(generator_first_plan(s->g), s->cpu, s->bounds, e));
    for (int i = 0; i < SAMPLING_STEPS; i++) TRY(plan_compare(generator_plan(s->g), s->cpu, s->bounds, e));
    return DDPM_OK;
}

static ddpm_status repeat_sampling(test *s, err *e)
{
    float first[PIXELS], again[PIXELS];
    for (int run = 0; run < WHOLE_RUNS; run++) {
        TRY(generator_run(s->g, &(generator_batch){.n = BATCH, .ids = ids}, run ? again : first, e));
        if (run && memcmp(first, again, sizeof first) != 0)
            return err_set(e, DDPM_EDIVERGED, "%d sampling steps give other images when they are repeated",
                           SAMPLING_STEPS);
    }
    return DDPM_OK;
}

ddpm_status self_test(backend *be, precision_kind precision, err *e)
{
    test s = {.be = be, .bounds = bounds_of(precision)};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(open_test(&s, e));
    TRY_GOTO(test_training(&s, e));
    TRY_GOTO(compare_sampling(&s, e));
    TRY_GOTO(repeat_sampling(&s, e));
done:
    close_test(&s);
    return st;
}

/* ---- once for each machine ---- */

static const char PASSED[] = "passed";

backend_spec self_test_spec(const backend_spec *of)
{
    backend_spec spec = *of;
    spec.autotune_cache = spec.shared_autotune_cache = NULL;
    spec.nondeterministic = false;
    spec.disabled = recipe_to_cuda_opt(CUDA_DISABLE_TUNING); /* autotuning compares the other algos with these */
    return spec;
}

/* *result: what is wrong; text "": nothing, or not tested for lack of memory. */
static ddpm_status test_device(const backend_spec *spec, precision_kind precision, err *result, err *e)
{
    const backend_spec tested = self_test_spec(spec);
    char note[THREADS_NOTE];
    backend *be = NULL;
    int threads;
    TRY(backend_create(&tested, &be, e));
    result->status = self_test(be, precision, result);
    backend_destroy(be);
    if (result->status == DDPM_OK || result->status == DDPM_ENOMEM) result->text[0] = '\0';
    return threads_choose(spec->threads, &threads, note, e); /* the reference has changed this thread's number */
}

/* Only results that differ are remembered: another failure may be a passing one. */
static ddpm_status test_once(const backend_spec *spec, const backend *be, autotune_cache *results, err *result, err *e)
{
    const char *precision = be->act == DTYPE_BF16 ? "bf16" : spec->precision == PRECISION_TF32 ? "tf32" : "fp32";
    const char *known = autotune_cache_find(results, precision);
    if (known) {
        if (strcmp(known, PASSED) != 0) (void)err_set(result, DDPM_EDIVERGED, "%s", known);
        return DDPM_OK;
    }
    TRY(test_device(spec, be->act == DTYPE_BF16 ? PRECISION_BF16 : spec->precision, result, e));
    if (result->status == DDPM_OK) return autotune_cache_put(results, precision, PASSED, 0, e);
    return result->status == DDPM_EDIVERGED ? autotune_cache_put(results, precision, result->text, 0, e) : DDPM_OK;
}

static ddpm_status test_remembered(const backend_spec *spec, const backend *be, const char *file, err *result, err *e)
{
    autotune_cache *results = NULL;
    TRY(autotune_cache_create(
        &(autotune_cache_spec){.file = file, .machine = be->machine, .search = "self-test " DDPM_VERSION}, &results,
        e));
    const ddpm_status st = test_once(spec, be, results, result, e);
    autotune_cache_destroy(results);
    return st;
}

ddpm_status self_test_open(const backend_spec *spec, backend **out, err *e)
{
    char file[PATH_CAP];
    err result = {0};
    backend *be;
    TRY(recipe_cache_file("self_test.txt", file, e));
    TRY(backend_create(spec, &be, e));
    *out = be;
    if (be->fn->host_memory || device_name_parse(spec->device).kind != DEVICE_AUTO) return DDPM_OK;
    const ddpm_status st = test_remembered(spec, be, file, &result, e);
    if (st == DDPM_OK && !result.text[0]) return DDPM_OK;
    backend_destroy(be);
    *out = NULL;
    TRY(st);
    backend_spec cpu = *spec;
    cpu.device = "cpu", cpu.precision = PRECISION_AUTO;
    TRY(backend_create(&cpu, out, e));
    (void)err_set(
        &(*out)->unused_gpu, DDPM_EBACKEND,
        "the GPU of this machine is not used, its self-test failed: %s; ddpm doctor device=cuda repeats it%s%s",
        result.text, file[0] ? ", and without this file so does the next run: " : "", file);
    (*out)->remark = (*out)->unused_gpu.text;
    return DDPM_OK;
}
