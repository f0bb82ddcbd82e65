/* The public interface as a user meets it: the installed header, the shared library, its errors. */
#include "ddpm.h"
#include "support/golden.h"

#include "core/file.h"
#include "core/mem.h"

#include <criterion/criterion.h>
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
