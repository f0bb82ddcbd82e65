/* Guided, masked and watched sampling with history on the emulated device: the images of the cpu backend, and a status
 * for each call that fails. */
#include "backend/cuda/cuda_backend.h"
#include "base/mem.h"
#include "emu/emu_control.h"
#include "sample/generator.h"
#include "support/golden.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { H = 6, W = 10, C = 3, D = H * W * C, CLASSES = 4, BATCH = 2, STEPS = 4, MOMENTS = 3 };

/* Two levels with classes; attention below. */
static network small_net(void)
{
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    net.unet.sample_size_h = H, net.unet.sample_size_w = W;
    net.unet.in_channels = net.unet.out_channels = C;
    net.unet.n_block = 2;
    net.unet.block[0] = (unet_block){2, UNET_DOWN, UNET_UP};
    net.unet.block[1] = (unet_block){4, UNET_ATTN_DOWN, UNET_UP};
    net.unet.layers_per_block = 1;
    net.unet.attention_head_dim = 0;
    net.unet.norm_num_groups = 2;
    net.unet.num_class_embeds = CLASSES;
    return net;
}

typedef struct setup {
    backend_spec device;
    sampler_kind sampler;
    int jumps;
    bool thresholding, film;
} setup;

typedef struct outcome {
    float x[BATCH * D], frames[MOMENTS][2][BATCH * D];
    int moments;
    uint8_t bytes[BATCH * D];
    long calls; /* of the runtime, until all results were there */
} outcome;

typedef struct engine {
    backend *be;
    model *m;
    generator *g;
} engine;

static ddpm_status keep_frame(void *context, int moment, int n, const float *x, const float *x0, err *e)
{
    outcome *o = context;
    memcpy(o->frames[moment][0], x, (size_t)n * D * sizeof *x);
    memcpy(o->frames[moment][1], x0, (size_t)n * D * sizeof *x0);
    o->moments++;
    return (void)e, DDPM_OK;
}

static bool go_on(void *context, int done, int total) { return (void)context, (void)done, (void)total, false; }

static generator_spec spec_of(const setup *s)
{
    generator_spec spec = {.batch = BATCH,
                           .h = H,
                           .w = W,
                           .seed = 3,
                           .weights = ARENA_PARAM,
                           .sampler = sampler_spec_default(s->sampler, STEPS),
                           .guidance = {.scale = 2.5, .rescale = 0.6, .null_class = CLASSES - 1},
                           .masked = true,
                           .jump_length = 1,
                           .jump_n_sample = s->jumps,
                           .watched = s->film};
    const scheduler_config of_model = scheduler_config_default();
    spec.scheduler = sampler_config(s->sampler, &of_model);
    spec.scheduler.thresholding = s->thresholding;
    spec.scheduler.sample_max_value = 2;
    generator_spec_start(&spec, 0.8);
    return spec;
}

static ddpm_status sample(engine *x, const setup *s, outcome *o, err *e)
{
    static const int64_t ids[BATCH] = {3, 4};
    static const int labels[BATCH] = {1, -1};
    static float images[BATCH * D];
    uint8_t mask[H * W];
    const generator_spec spec = spec_of(s);
    const generator_batch batch = {.n = BATCH, .ids = ids, .labels = labels, .images = images};
    for (int i = 0; i < BATCH * D; i++) images[i] = (float)(i * i % 256) / 127.5f - 1.0f;
    for (int i = 0; i < H * W; i++) mask[i] = i % 3 != 0;
    TRY(generator_create(x->m, &spec, &x->g, e));
    TRY(generator_allocate(x->g, e));
    TRY(generator_set_mask(x->g, mask, e));
    TRY(generator_run(x->g, &batch, o->x, e));
    generator_watch(x->g, go_on, NULL);
    if (s->film) generator_film(x->g, MOMENTS, keep_frame, o);
    return generator_run_bytes(x->g, &batch, o->bytes, e);
}

static ddpm_status everything(const setup *s, outcome *o, err *e)
{
    const network net = small_net();
    const scheduler_config scheduler = scheduler_config_default();
    engine x = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(backend_create(&s->device, &x.be, e));
    TRY_GOTO(model_create(x.be, &net, &scheduler, &x.m, e));
    TRY_GOTO(params_allocate(x.m->store, false, false, e));
    TRY_GOTO(params_init(x.m->store, 1, e));
    TRY_GOTO(sample(&x, s, o, e));
    o->calls = emu_calls();
done:
    generator_destroy(x.g);
    model_destroy(x.m);
    backend_destroy(x.be);
    return st;
}

static outcome a, b;

static void compare(setup s, double bound)
{
    err why = {0};
    s.film = true;
    a = b = (outcome){0};
    OK(everything(&s, &a, &why));
    cr_expect_eq(emu_live_total(), 0);
    s.device = (backend_spec){.device = "cpu", .threads = 1};
    OK(everything(&s, &b, &why));
    cr_expect(rel_l2(a.x, b.x, BATCH * D) < bound, "images differ by %.2e", rel_l2(a.x, b.x, BATCH * D));
    cr_expect(a.moments == MOMENTS && b.moments == MOMENTS);
    for (int k = 0; k < MOMENTS; k++)
        for (int i = 0; i < 2; i++) {
            const double error = rel_l2(a.frames[k][i], b.frames[k][i], BATCH * D);
            cr_expect(error < bound, "moment %d, %s differs by %.2e", k, i ? "x0_hat" : "x", error);
        }
    cr_expect_arr_eq(a.frames[MOMENTS - 1][0], a.x, sizeof a.x, "neither a film nor a tick changes an image");
    for (int i = 0; i < BATCH * D; i++) {
        if (i / C % (H * W) % 3) continue;
        cr_assert_eq(a.x[i], (float)(i * i % 256) / 127.5f - 1.0f, "the mask keeps value %d", i);
        cr_assert_eq(a.bytes[i], i * i % 256);
    }
}

static setup cuda(sampler_kind k)
{
    /* test_cuda_tune.c looks at tuning */
    const backend_spec device = {.device = "cuda", .precision = PRECISION_FP32, .disabled = CUDA_OPT_TUNING};
    return (setup){.device = device, .sampler = k, .jumps = 1};
}

Test(cuda_sampling, agrees_with_the_cpu_with_history, .timeout = 600) { compare(cuda(SAMPLER_UNIPC), 1e-4); }

Test(cuda_sampling, agrees_with_the_cpu_with_jumps, .timeout = 600)
{
    setup s = cuda(SAMPLER_DDPM);
    s.jumps = 2;
    compare(s, 1e-4);
}

Test(cuda_sampling, agrees_with_the_cpu_with_thresholding, .timeout = 600)
{
    setup s = cuda(SAMPLER_DDIM);
    s.thresholding = true;
    compare(s, 1e-4);
}

Test(cuda_sampling, agrees_with_the_cpu_in_bf16, .timeout = 600)
{
    setup s = cuda(SAMPLER_DPMPP_2M);
    s.device.precision = PRECISION_BF16;
    compare(s, 5e-2);
}

/* Every 17th call; with $DDPM_TEST_LONG every one. */
Test(cuda_sampling, every_call_of_the_device_may_fail, .timeout = 3600)
{
    setup s = cuda(SAMPLER_UNIPC);
    s.film = true;
    err why = {0};
    OK(everything(&s, &a, &why));
    const long calls = a.calls;
    const int stride = getenv("DDPM_TEST_LONG") ? 1 : 17;
    int failed = 0, got_by = 0;
    for (long n = 1; n <= calls; n += stride) {
        emu_reset();
        emu_fail_at(n);
        why = (err){0};
        b = (outcome){0};
        const ddpm_status st = everything(&s, &b, &why);
        cr_assert_eq(emu_live_total(), 0, "call %ld: %d things of the device are left (%s)", n, emu_live_total(),
                     why.text);
        if (st == DDPM_OK) { /* a loop that CUDA refuses runs one iteration at a time */
            cr_expect_arr_eq(b.x, a.x, sizeof a.x, "call %ld", n);
            got_by++;
            continue;
        }
        cr_assert(st == DDPM_EBACKEND || st == DDPM_ENOMEM || st == DDPM_EDEVICE, "call %ld: %s %s", n, err_name(st),
                  why.text);
        cr_assert(strstr(why.text, "emulated failure"), "call %ld: %s", n, why.text);
        failed++;
    }
    emu_reset();
    cr_log_info("%ld calls, %d failed, %d got by without", calls, failed, got_by);
    cr_expect_leq(got_by, 1);
    cr_expect_gt(failed, 35);
}
