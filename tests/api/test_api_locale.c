/* The library in a process whose numbers have a comma: it reads and writes them with a point all the same. */
#include "ddpm.h"
#include "base/mem.h"
#include "support/comma_locale.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static ddpm_ctx *comma_context(void)
{
    ddpm_ctx *ctx;
    if (!comma_locale()) cr_skip_test("no locale with a comma can be made for this C library");
    cr_assert_eq(ddpm_ctx_create(&ctx, "cpu"), DDPM_OK, "%s", ddpm_last_error(ctx));
    return ctx;
}

static ddpm_wish sees_the_callers_locale(void *user, const ddpm_progress *p)
{
    (void)snprintf(user, 16, "%.2f", 0.25);
    return DDPM_GO_ON;
}

static void expect_json_lines(const char *path)
{
    char line[1024];
    int lines = 0;
    FILE *f = fopen(path, "r");
    cr_assert_not_null(f);
    for (; fgets(line, sizeof line, f); lines++) {
        json_t *v = json_loads(line, 0, NULL);
        cr_expect(json_is_number(json_object_get(v, "loss")), "not JSON: %s", line);
        json_decref(v);
    }
    (void)fclose(f);
    cr_expect_eq(lines, 3);
}

static void expect_words(const char *path, const char *words)
{
    char *text = get_text(path);
    cr_expect_not_null(strstr(text, words), "%s: no '%s'", path, words);
    mem_free(text);
}

static void train_tiny(ddpm_ctx *ctx, const char *dir, const char *schedule, char *seen)
{
    char out[PATH_CAP + 8], betas[64];
    (void)snprintf(out, sizeof out, "out=%s", dir);
    (void)snprintf(betas, sizeof betas, "diffusion.beta_schedule=%s", schedule);
    const char *const settings[] = {out,
                                    betas,
                                    "threads=1",
                                    "data.kind=digits",
                                    "data.resolution=8",
                                    "data.channels=1",
                                    "data.count=8",
                                    "model.block_out_channels=8",
                                    "model.down_block_types=DownBlock2D",
                                    "model.up_block_types=UpBlock2D",
                                    "model.layers_per_block=1",
                                    "model.norm_num_groups=4",
                                    "diffusion.num_train_timesteps=20",
                                    "train.steps=3",
                                    "train.batch=4",
                                    "train.lr=1.5e-3",
                                    "log.every=1"};
    cr_assert_eq(ddpm_train(ctx, (int)(sizeof settings / sizeof *settings), settings, sees_the_callers_locale, seen),
                 DDPM_OK, "%s", ddpm_last_error(ctx));
}

/* faults B7, F14: adam_beta1 was 0, and config.yaml, metrics.jsonl and the scheduler held commas */
Test(api_locale, trains_as_with_a_point_and_writes_yaml_and_json)
{
    static const char *const schedules[] = {"linear", "squaredcos_cap_v2"};
    ddpm_ctx *ctx = comma_context();
    for (int i = 0; i < 2; i++) {
        char dir[PATH_CAP], seen[16] = "";
        train_tiny(ctx, scratch_make(dir), schedules[i], seen);
        cr_expect_str_eq(seen, "0,25", "the caller's function runs in the caller's locale");
        expect_json_lines(in_dir(dir, "metrics.jsonl"));
        expect_words(in_dir(dir, "config.yaml"), "lr: 0.0015\n");
        expect_words(in_dir(dir, "config.yaml"), "adam_beta1: 0.9\n");
        expect_words(in_dir(dir, "config.yaml"), "decay: 0.9999\n");
        expect_words(in_dir(dir, "ckpt/step_00000003/scheduler/scheduler_config.json"), "\"beta_end\": 0.02,");
        ddpm_model *m;
        ddpm_sampler *s;
        const int64_t id = 0;
        float image[64];
        cr_assert_eq(ddpm_model_load(ctx, dir, &m), DDPM_OK, "%s", ddpm_last_error(ctx));
        cr_assert_eq(ddpm_sampler_create(m, NULL, &s), DDPM_OK, "%s", ddpm_last_error(ctx));
        cr_assert_eq(ddpm_sampler_run(s, 1, &id, image), DDPM_OK, "%s", ddpm_last_error(ctx));
        ddpm_sampler_destroy(s);
        ddpm_model_destroy(m);
        scratch_remove(dir);
    }
    char text[16];
    (void)snprintf(text, sizeof text, "%.1f", 1.5);
    cr_expect_str_eq(text, "1,5", "the caller's locale is as it was");
    ddpm_ctx_destroy(ctx);
}

Test(api_locale, messages_have_points_and_failures_leave_the_locale)
{
    ddpm_ctx *ctx = comma_context();
    char text[16];
    cr_assert_eq(ddpm_train(ctx, 1, (const char *const[]){"train.lr=2.5"}, NULL, NULL), DDPM_EINVAL);
    cr_expect_not_null(strstr(ddpm_last_error(ctx), "2.5 is out of range"), "%s", ddpm_last_error(ctx));
    cr_assert_eq(
        ddpm_train(ctx, 2, (const char *const[]){"diffusion.beta_start=0.5", "diffusion.beta_end=0.25"}, NULL, NULL),
        DDPM_EINVAL);
    cr_expect_not_null(strstr(ddpm_last_error(ctx), "beta_start=0.5 is above"), "%s", ddpm_last_error(ctx));
    (void)snprintf(text, sizeof text, "%.1f", 1.5);
    cr_expect_str_eq(text, "1,5");
    ddpm_ctx_destroy(ctx);
}
