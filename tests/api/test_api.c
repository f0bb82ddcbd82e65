/* The public interface as a user meets it: the installed header, the shared library, its errors. */
#include "ddpm.h"
#include "support/golden.h"
#include "support/io_support.h"

#include "base/file.h"
#include "base/mem.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ddpm_model *load(ddpm_ctx **ctx, const char *name)
{
    char dir[PATH_CAP];
    ddpm_model *m;
    cr_assert_eq(ddpm_ctx_create(ctx, "cpu"), DDPM_OK, "%s", ddpm_last_error(*ctx));
    cr_assert_eq(ddpm_model_load(*ctx, golden_path(dir, name), &m), DDPM_OK, "%s", ddpm_last_error(*ctx));
    return m;
}

/* One pipeline of diffusers in its present layout, the first releases' flat one, and in half precisions. */
static void predict(const char *folder, const char *expected)
{
    ddpm_ctx *ctx;
    ddpm_model *m = load(&ctx, folder);
    ddpm_model_info info;
    ddpm_model_get_info(m, &info);
    safetensors *io = golden_open("pipeline/io.safetensors");
    const safetensors_tensor *shape = golden_find(io, "x");
    float *x = golden_f32(io, "x", NULL), *t = golden_f32(io, "t", NULL), *want = golden_f32(io, expected, NULL);
    const int n = (int)shape->shape[0], d = (int)(shape->shape[1] * shape->shape[2] * shape->shape[3]);
    cr_assert_eq(info.h * info.w * info.c, d);
    float *out = calloc((size_t)n * (size_t)d, sizeof *out);
    for (int batch = 1; batch <= n; batch++) {
        memset(out, 0xff, (size_t)n * (size_t)d * sizeof *out);
        cr_assert_eq(ddpm_model_predict(m, batch, x, t, out), DDPM_OK, "%s", ddpm_last_error(ctx));
        cr_assert_lt(rel_l2(out, want, (int64_t)batch * d), 1e-5, "%s, batch %d", folder, batch);
    }
    free(out);
    mem_free(x), mem_free(t), mem_free(want);
    safetensors_close(io);
    ddpm_model_destroy(m);
    ddpm_ctx_destroy(ctx);
}

Test(api, predicts_what_diffusers_predicts_for_any_batch)
{
    predict("pipeline/current", "out.current");
    predict("pipeline/legacy", "out.current");
    predict("pipeline/half", "out.half");
    predict("pipeline/bfloat", "out.bfloat");
}

Test(api, image_k_is_the_same_picture_whatever_the_batch)
{
    enum { N = 5 };
    const int64_t ids[N] = {0, 1, 2, 3, 4}, some[2] = {3, 1};
    ddpm_ctx *ctx;
    ddpm_model *m = load(&ctx, "pipeline/current");
    ddpm_model_info info;
    ddpm_model_get_info(m, &info);
    const int d = info.h * info.w * info.c;
    float *all = calloc(N * (size_t)d, sizeof *all), *few = calloc(2 * (size_t)d, sizeof *few);
    for (int batch = 1; batch <= 3; batch++) {
        ddpm_sampler_options o = {
            .struct_size = sizeof o, .batch = batch == 1 ? N : batch, .num_inference_steps = 20, .seed = 7};
        ddpm_sampler *s;
        cr_assert_eq(ddpm_sampler_create(m, &o, &s), DDPM_OK, "%s", ddpm_last_error(ctx));
        if (batch == 1) cr_assert_eq(ddpm_sampler_run(s, N, ids, all), DDPM_OK);
        cr_assert_eq(ddpm_sampler_run(s, 2, some, few), DDPM_OK);
        cr_assert_lt(rel_l2(few, all + 3 * d, d), 1e-5);
        cr_assert_lt(rel_l2(few + d, all + 1 * d, d), 1e-5);
        cr_assert_gt(rel_l2(few, all, d), 0.1, "another image is another picture");
        ddpm_sampler_destroy(s);
    }
    free(all);
    free(few);
    ddpm_model_destroy(m);
    ddpm_ctx_destroy(ctx);
}

Test(api, says_what_is_wrong_in_one_line)
{
    ddpm_ctx *ctx;
    ddpm_model *m;
    cr_assert_eq(ddpm_ctx_create(&ctx, "abacus"), DDPM_EINVAL);
    cr_assert_str_eq(ddpm_last_error(ctx), "device=abacus: unknown device; use auto, cpu, cuda or cuda:N");
    cr_assert_eq(ddpm_model_load(ctx, "x", &m), DDPM_EINVAL, "a context without a device is of no use");
    ddpm_ctx_destroy(ctx);
    cr_assert_eq(ddpm_ctx_create(&ctx, "cpu"), DDPM_OK);
    cr_assert_eq(ddpm_model_load(ctx, "/nowhere/at/all", &m), DDPM_ENOINPUT);
    cr_assert_str_eq(ddpm_last_error(ctx), "/nowhere/at/all: no such folder");
    cr_assert_null(m);
    cr_assert_eq(ddpm_train(ctx, 1, (const char *const[]){"train.bacth=3"}, NULL, NULL), DDPM_EINVAL);
    cr_assert_not_null(strstr(ddpm_last_error(ctx), "train.batch"), "%s", ddpm_last_error(ctx));
    ddpm_ctx_destroy(ctx);
    ddpm_ctx_destroy(NULL);
    ddpm_model_destroy(NULL);
    ddpm_sampler_destroy(NULL);
}

/* faults D: every function, every NULL */
Test(api, nulls_are_refused)
{
    ddpm_ctx *ctx;
    ddpm_model *none = (ddpm_model *)&ctx, *m = load(&ctx, "pipeline/current");
    ddpm_sampler *no_sampler = (ddpm_sampler *)&ctx, *s;
    ddpm_model_info info = {.h = 7};
    float x[1] = {0};
    const int64_t ids[1] = {0};
    cr_expect_eq(ddpm_ctx_create(NULL, "cpu"), DDPM_EINVAL);
    cr_expect_str_eq(ddpm_ctx_describe(NULL), "");
    cr_expect_str_eq(ddpm_last_error(NULL), "out of memory");
    cr_expect_str_eq(ddpm_status_text((ddpm_status)12345), "unknown status");
    cr_expect_eq(ddpm_model_load(NULL, "x", &none), DDPM_EINVAL);
    cr_expect_null(none);
    cr_expect_eq(ddpm_model_load(ctx, NULL, &none), DDPM_EINVAL);
    cr_expect_str_eq(ddpm_last_error(ctx), "pipeline_dir is NULL");
    cr_expect_eq(ddpm_model_load(ctx, "x", NULL), DDPM_EINVAL);
    cr_expect_str_eq(ddpm_last_error(ctx), "model is NULL");
    cr_expect_eq(ddpm_model_get_info(NULL, &info), DDPM_EINVAL);
    cr_expect_eq(info.h, 0);
    cr_expect_eq(ddpm_model_get_info(m, NULL), DDPM_EINVAL);
    cr_expect_eq(ddpm_model_get_info(NULL, NULL), DDPM_EINVAL);
    cr_expect_eq(ddpm_model_predict(NULL, 1, x, x, x), DDPM_EINVAL);
    cr_expect_eq(ddpm_model_predict(m, 1, NULL, x, x), DDPM_EINVAL);
    cr_expect_eq(ddpm_model_predict(m, 1, x, NULL, x), DDPM_EINVAL);
    cr_expect_eq(ddpm_model_predict(m, 1, x, x, NULL), DDPM_EINVAL);
    cr_expect_eq(ddpm_sampler_create(NULL, NULL, &no_sampler), DDPM_EINVAL);
    cr_expect_null(no_sampler);
    cr_expect_eq(ddpm_sampler_create(m, NULL, NULL), DDPM_EINVAL);
    cr_assert_eq(ddpm_sampler_create(m, NULL, &s), DDPM_OK, "%s", ddpm_last_error(ctx));
    cr_expect_eq(ddpm_sampler_run(NULL, 1, ids, x), DDPM_EINVAL);
    cr_expect_eq(ddpm_sampler_run(s, 1, NULL, x), DDPM_EINVAL);
    cr_expect_eq(ddpm_sampler_run(s, 1, ids, NULL), DDPM_EINVAL);
    cr_expect_eq(ddpm_train(NULL, 0, NULL, NULL, NULL), DDPM_EINVAL);
    cr_expect_eq(ddpm_train(ctx, 1, NULL, NULL, NULL), DDPM_EINVAL);
    cr_expect_eq(ddpm_train(ctx, 1, (const char *const[]){NULL}, NULL, NULL), DDPM_EINVAL);
    ddpm_sampler_destroy(s);
    ddpm_model_destroy(m);
    ddpm_ctx_destroy(ctx);
}

static void expect_refused(ddpm_ctx *ctx, ddpm_status st, const char *words)
{
    cr_expect_eq(st, DDPM_EINVAL, "%d: %s", (int)st, ddpm_last_error(ctx));
    cr_expect_not_null(strstr(ddpm_last_error(ctx), words), "no '%s' in '%s'", words, ddpm_last_error(ctx));
}

/* faults D: t outside of [0, T) was answered; every number that a function takes, out of its range */
Test(api, values_out_of_range_are_refused)
{
    static const struct {
        float t;
        const char *words;
    } bad[] = {{-5, "t[1] = -5 is not in [0, 1000)"},
               {1e9f, "t[1] = 1e+09"},
               {NAN, "t[1] = nan"},
               {-INFINITY, "t[1] = -inf"},
               {1000, "t[1] = 1000"},
               {-1e-30f, "t[1] = -1e-30"}};
    ddpm_ctx *ctx;
    ddpm_model *m = load(&ctx, "pipeline/current");
    ddpm_model_info info;
    ddpm_sampler *s;
    cr_assert_eq(ddpm_model_get_info(m, &info), DDPM_OK);
    const size_t d = (size_t)(info.h * info.w * info.c);
    float *x = calloc(2 * d, sizeof *x), *out = calloc(2 * d, sizeof *out), t[2] = {999.5f, 0};
    cr_assert_eq(ddpm_model_predict(m, 2, x, t, out), DDPM_OK, "%s", ddpm_last_error(ctx));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        t[1] = bad[i].t;
        expect_refused(ctx, ddpm_model_predict(m, 2, x, t, out), bad[i].words);
    }
    t[1] = 1, x[d + 1] = NAN;
    char words[64];
    (void)snprintf(words, sizeof words, "value %zu of x is nan", d + 1);
    expect_refused(ctx, ddpm_model_predict(m, 2, x, t, out), words);
    expect_refused(ctx, ddpm_model_predict(m, 0, x, t, out), "n = 0");
    expect_refused(ctx, ddpm_model_predict(m, -1, x, t, out), "n = -1");
    cr_expect_eq(ddpm_model_predict(m, INT32_MAX, x, t, out), DDPM_ENOMEM, "%s", ddpm_last_error(ctx));
    for (size_t i = 0; i < 2 * d; i++) x[i] = i % 2 ? 3e38f : -3e38f;
    cr_expect_eq(ddpm_model_predict(m, 2, x, t, out), DDPM_EDIVERGED);
    cr_expect_not_null(strstr(ddpm_last_error(ctx), "output is not finite"), "%s", ddpm_last_error(ctx));
    memset(x, 0, 2 * d * sizeof *x);
    cr_expect_eq(ddpm_model_predict(m, 2, x, t, out), DDPM_OK, "a refusal leaves the model usable");
    expect_refused(
        ctx,
        ddpm_sampler_create(m, &(ddpm_sampler_options){.struct_size = sizeof(ddpm_sampler_options), .batch = -1}, &s),
        "batch -1");
    expect_refused(
        ctx,
        ddpm_sampler_create(
            m, &(ddpm_sampler_options){.struct_size = sizeof(ddpm_sampler_options), .num_inference_steps = -1}, &s),
        "num_inference_steps: -1 is out of range (0 to 10000)");
    expect_refused(ctx,
                   ddpm_sampler_create(
                       m, &(ddpm_sampler_options){.struct_size = sizeof(ddpm_sampler_options), .batch = 65537}, &s),
                   "batch 65537: must be 1 to 65536");
    cr_assert_eq(ddpm_sampler_create(m, NULL, &s), DDPM_OK);
    expect_refused(ctx, ddpm_sampler_run(s, 0, (const int64_t[]){0}, out), "n = 0");
    expect_refused(ctx, ddpm_sampler_run(s, 1, (const int64_t[]){-1}, out), "ids[0] = -1");
    expect_refused(ctx, ddpm_sampler_run(s, 2, (const int64_t[]){0, 4294967296}, out), "ids[1] = 4294967296");
    expect_refused(ctx, ddpm_train(ctx, -1, NULL, NULL, NULL), "n = -1");
    ddpm_sampler_destroy(s);
    ddpm_model_destroy(m);
    ddpm_ctx_destroy(ctx);
    free(x);
    free(out);
}

/* faults D: a context that was destroyed before its model was used after it was freed */
Test(api, handles_are_destroyed_in_any_order)
{
    static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        const ddpm_sampler_options o = {.struct_size = sizeof o, .batch = 1, .num_inference_steps = 1};
        const int64_t id = 0;
        float image[3 * 64 * 64];
        bool there = true;
        ddpm_ctx *ctx;
        ddpm_model *m = load(&ctx, "pipeline/current");
        ddpm_sampler *s;
        cr_assert_eq(ddpm_sampler_create(m, &o, &s), DDPM_OK, "%s", ddpm_last_error(ctx));
        for (int k = 0; k < 3; k++) {
            if (orders[i][k] == 0) ddpm_ctx_destroy(ctx);
            if (orders[i][k] == 1) ddpm_model_destroy(m);
            if (orders[i][k] == 2) ddpm_sampler_destroy(s), there = false;
            if (there) cr_expect_eq(ddpm_sampler_run(s, 1, &id, image), DDPM_OK);
        }
    }
}

Test(api, refuses_options_of_another_version)
{
    ddpm_ctx *ctx;
    ddpm_model *m = load(&ctx, "pipeline/current");
    ddpm_sampler *s;
    ddpm_sampler_options o = {.struct_size = 4};
    cr_assert_eq(ddpm_sampler_create(m, &o, &s), DDPM_EINVAL);
    cr_assert_null(s);
    o = (ddpm_sampler_options){.struct_size = sizeof o, .num_inference_steps = 1001};
    cr_assert_eq(ddpm_sampler_create(m, &o, &s), DDPM_EINVAL);
    cr_assert_str_eq(ddpm_last_error(ctx), "num_inference_steps 1001 is not in [1, 1000]");
    ddpm_model_destroy(m);
    ddpm_ctx_destroy(ctx);
}

static ddpm_wish stop_at_3(void *user, const ddpm_progress *p)
{
    ++*(int *)user;
    return p->step == 3 ? DDPM_STOP : DDPM_GO_ON;
}

static ddpm_wish save_at_2(void *user, const ddpm_progress *p) { return p->step == 2 ? DDPM_SAVE : DDPM_GO_ON; }

/* A preview, which asks again, comes between the wish and the next step. */
Test(api, one_wish_to_save_is_one_checkpoint)
{
    char out[] = "/tmp/ddpm-api-XXXXXX", setting[64], path[PATH_CAP];
    ddpm_ctx *ctx;
    err why = {0};
    cr_assert_not_null(mkdtemp(out));
    (void)snprintf(setting, sizeof setting, "out=%s", out);
    const char *const settings[] = {"configs/quickstart.yaml", setting,         "data.count=64",
                                    "train.batch=4",           "train.steps=5", "sample.every=2",
                                    "sample.count=1",          "ckpt.keep=10",  "sample.num_inference_steps=2"};
    cr_assert_eq(ddpm_ctx_create(&ctx, "cpu"), DDPM_OK);
    cr_assert_eq(ddpm_train(ctx, sizeof settings / sizeof *settings, settings, save_at_2, NULL), DDPM_OK, "%s",
                 ddpm_last_error(ctx));
    for (int k = 1; k <= 5; k++) {
        (void)snprintf(path, sizeof path, "%s/ckpt/step_%08d", out, k);
        cr_expect_eq(path_exists(path), k == 2 || k == 5, "step %d", k);
    }
    ddpm_ctx_destroy(ctx);
    cr_assert_eq(dir_remove(out, &why), DDPM_OK, "%s", why.text);
}

Test(api, trains_stops_and_goes_on)
{
    char out[] = "/tmp/ddpm-api-XXXXXX", setting[64];
    int steps = 0;
    ddpm_ctx *ctx;
    err why = {0};
    cr_assert_not_null(mkdtemp(out));
    (void)snprintf(setting, sizeof setting, "out=%s", out);
    const char *const settings[] = {"configs/quickstart.yaml", setting,          "data.count=64", "train.batch=4",
                                    "train.steps=5",           "sample.every=0", "resume=auto"};
    cr_assert_eq(ddpm_ctx_create(&ctx, "cpu"), DDPM_OK);
    cr_assert_eq(ddpm_train(ctx, 7, settings, stop_at_3, &steps), DDPM_ESAVED, "%s", ddpm_last_error(ctx));
    cr_assert_eq(steps, 3);
    cr_assert_eq(ddpm_train(ctx, 7, settings, stop_at_3, &steps), DDPM_OK, "%s", ddpm_last_error(ctx));
    cr_assert_eq(steps, 5);
    ddpm_ctx_destroy(ctx);
    cr_assert_eq(dir_remove(out, &why), DDPM_OK, "%s", why.text);
}

/* Train a tiny network for one step with these settings besides a folder of its own, `out`. */
static ddpm_status train_a_step(ddpm_ctx *ctx, const char *out, const char *first, const char *second)
{
    char setting[PATH_CAP + 8];
    (void)snprintf(setting, sizeof setting, "out=%s", out);
    const char *const settings[] = {setting,
                                    first,
                                    second,
                                    "data.kind=digits",
                                    "data.resolution=8",
                                    "data.channels=1",
                                    "data.count=8",
                                    "model.block_out_channels=16",
                                    "model.down_block_types=DownBlock2D",
                                    "model.up_block_types=UpBlock2D",
                                    "model.layers_per_block=1",
                                    "model.norm_num_groups=4",
                                    "train.steps=1",
                                    "train.batch=4"};
    return ddpm_train(ctx, (int)(sizeof settings / sizeof *settings), settings, NULL, NULL);
}

static void expect_line(const char *path, const char *line)
{
    char *text = get_text(path);
    cr_expect_not_null(strstr(text, line), "%s: no '%s' in %s", path, line, text);
    mem_free(text);
}

/* faults B8: device, precision, threads and autotune_cache were ignored, and recorded */
Test(api, a_training_computes_as_its_settings_say_and_says_so)
{
    char dir[PATH_CAP], cache[PATH_CAP + 32];
    ddpm_ctx *ctx;
    scratch_make(dir);
    cr_assert_eq(setenv("OMP_NUM_THREADS", "1", 1), 0);
    cr_assert_eq(ddpm_ctx_create(&ctx, "cpu"), DDPM_OK);
    (void)snprintf(cache, sizeof cache, "autotune_cache=%s/plans", dir);
    cr_assert_eq(train_a_step(ctx, in_dir(dir, "two"), "threads=2", cache), DDPM_OK, "%s", ddpm_last_error(ctx));
    expect_line(in_dir(dir, "two/log.txt"), "device: cpu: 2 threads");
    expect_line(in_dir(dir, "two/config.yaml"), "threads: 2\n");
    cr_expect(path_exists(in_dir(dir, "plans")), "autotune_cache= has no effect");
    cr_assert_eq(train_a_step(ctx, in_dir(dir, "own"), "seed=1", "resume=never"), DDPM_OK, "%s", ddpm_last_error(ctx));
    expect_line(in_dir(dir, "own/log.txt"), "device: cpu: 1 thread,");
    expect_line(in_dir(dir, "own/config.yaml"), "threads: 1\n");
    expect_line(in_dir(dir, "own/config.yaml"), "device: cpu\n");
    cr_expect(path_exists(in_dir(dir, "own/autotune.txt")), "the choices of the run are not kept with it");
    expect_refused(ctx, train_a_step(ctx, in_dir(dir, "bf16"), "precision=bf16", "threads=1"), "precision: the CPU");
    const ddpm_status st = train_a_step(ctx, in_dir(dir, "cuda"), "device=cuda:99", "threads=1");
    cr_expect_eq(st, DDPM_EDEVICE, "%d: %s", (int)st, ddpm_last_error(ctx));
    ddpm_ctx_destroy(ctx);
    scratch_remove(dir);
}

/* faults D: a path with = in it could not be given */
Test(api, a_setting_with_a_slash_before_its_equals_sign_is_a_path)
{
    char dir[PATH_CAP];
    ddpm_ctx *ctx;
    put_file(in_dir(scratch_make(dir), "a=b.yaml"), "train: {lr: 7}\n");
    const char *const path = in_dir(dir, "a=b.yaml");
    cr_assert_eq(ddpm_ctx_create(&ctx, "cpu"), DDPM_OK);
    cr_expect_eq(ddpm_train(ctx, 1, &path, NULL, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(ddpm_last_error(ctx), "a=b.yaml:1:13: train.lr"), "%s", ddpm_last_error(ctx));
    ddpm_ctx_destroy(ctx);
    scratch_remove(dir);
}
