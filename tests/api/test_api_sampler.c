/* Samplers of the public interface: by name, with guidance, from images, with masks; and what they refuse. */
#include "ddpm.h"
#include "support/golden.h"

#include "base/file.h"

#include <criterion/criterion.h>
#include <math.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3, SIDE = 8, C = 3, D = SIDE * SIDE * C, STEPS = 10, FIRST_SIZE = 24 };
static const int64_t ids[N] = {7, 0, 4294967295};
static const int labels[N] = {2, 0, 3};

static ddpm_ctx *ctx;
static ddpm_model *m; /* 8x8 pixels, 3 channels, 5 classes */
static float start[N * D];
static uint8_t mask[SIDE * SIDE];

static void open_model(void)
{
    cpu_set_t one; /* tiny networks: several threads would only wait for one another */
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    cr_assert_eq(sched_setaffinity(0, sizeof one, &one), 0);
    cr_assert_eq(ddpm_ctx_create(&ctx, "cpu"), DDPM_OK, "%s", ddpm_last_error(ctx));
    cr_assert_eq(ddpm_model_load(ctx, DDPM_TESTS "/sample/loops/classes", &m), DDPM_OK, "%s", ddpm_last_error(ctx));
    for (int i = 0; i < N * D; i++) start[i] = (float)((7 * i + i * i % 101) % 256) / 127.5f - 1.0f;
    for (int i = 0; i < SIDE * SIDE; i++) mask[i] = i % SIDE > 2;
}

static void close_model(void)
{
    ddpm_model_destroy(m);
    ddpm_ctx_destroy(ctx);
}

TestSuite(api_sampler, .init = open_model, .fini = close_model, .timeout = 120);

static ddpm_sampler_options options(const char *sampler)
{
    return (ddpm_sampler_options){.struct_size = sizeof(ddpm_sampler_options),
                                  .batch = 2, /* of 3 images, so that there are two batches */
                                  .num_inference_steps = STEPS,
                                  .seed = 9,
                                  .sampler = sampler};
}

static ddpm_sampler_input input(const int *of, const float *from)
{
    return (ddpm_sampler_input){
        .struct_size = sizeof(ddpm_sampler_input), .n = N, .ids = ids, .labels = of, .images = from};
}

static ddpm_sampler *create(ddpm_sampler_options o)
{
    ddpm_sampler *s;
    cr_assert_eq(ddpm_sampler_create(m, &o, &s), DDPM_OK, "%s", ddpm_last_error(ctx));
    return s;
}

static void draw(ddpm_sampler_options o, const int *of, const float *from, float x[N * D])
{
    ddpm_sampler *s = create(o);
    const ddpm_sampler_input in = input(of, from);
    cr_assert_eq(ddpm_sampler_run_input(s, &in, x), DDPM_OK, "%s", ddpm_last_error(ctx));
    ddpm_sampler_destroy(s);
}

static void expect_said(ddpm_status st, const char *said)
{
    const char *text = ddpm_last_error(ctx);
    cr_expect_eq(st, DDPM_EINVAL, "%d: %s", (int)st, text);
    cr_expect(strstr(text, said) && !strchr(text, '\n'), "'%s' instead of '%s'", text, said);
    cr_expect_not(strstr(text, "command line"), "%s", text);
}

static void refused(ddpm_sampler_options o, const char *said)
{
    ddpm_sampler *s = (ddpm_sampler *)&o;
    expect_said(ddpm_sampler_create(m, &o, &s), said);
    cr_expect_null(s);
}

static void refused_setting(const char *setting, const char *said)
{
    ddpm_sampler_options o = options("ddim");
    o.n_settings = 1, o.settings = &setting;
    refused(o, said);
}

/* ---- the options' versions ---- */

Test(api_sampler, a_caller_of_the_first_version_is_served)
{
    float old[N * D], new[N * D];
    ddpm_sampler_options o = options(NULL);
    cr_assert_eq(offsetof(ddpm_sampler_options, sampler), FIRST_SIZE);
    draw(o, NULL, NULL, new);
    o.struct_size = FIRST_SIZE; /* what is behind it is not the caller's */
    o.sampler = "no such sampler", o.guidance = NAN, o.strength = -1, o.n_settings = -5;
    draw(o, NULL, NULL, old);
    cr_expect_arr_eq(old, new, sizeof old);
    static const size_t bad[] = {0, 8, FIRST_SIZE - 1, FIRST_SIZE + 1, FIRST_SIZE + 8, sizeof o - 1, sizeof o + 8};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        o = options(NULL);
        o.struct_size = bad[i];
        char said[40];
        (void)snprintf(said, sizeof said, "struct_size is %zu, but", bad[i]);
        refused(o, said);
    }
}

/* ---- samplers and settings ---- */

Test(api_sampler, samplers_have_names)
{
    static const struct {
        const char *name;
        int evaluations;
    } names[] = {{NULL, STEPS},           {"auto", STEPS},  {"ddpm", STEPS},   {"ddim", STEPS},
                 {"heun", 2 * STEPS - 1}, {"euler", STEPS}, {"pndm", 19},      {"plms", 11},
                 {"dpmpp_2m", STEPS},     {"unipc", STEPS}, {"euler_a", STEPS}};
    float x[3][N * D];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        ddpm_sampler *s = create(options(names[i].name));
        cr_expect_eq(ddpm_sampler_evaluations(s), names[i].evaluations, "%s: %d", names[i].name ? names[i].name : "",
                     ddpm_sampler_evaluations(s));
        ddpm_sampler_destroy(s);
    }
    cr_expect_eq(ddpm_sampler_evaluations(NULL), 0);
    draw(options(NULL), NULL, NULL, x[0]);
    draw(options("ddpm"), NULL, NULL, x[1]);
    draw(options("unipc"), NULL, NULL, x[2]);
    cr_expect_arr_eq(x[0], x[1], sizeof x[0]);
    cr_expect(rel_l2(x[2], x[1], N * D) > 0.01);
    refused(options("no_such"), "no_such");
    refused(options("ddim order=2"), "ddim order=2");
    refused(options("edm"), "edm samples EDM, but the model's DDPMScheduler says a diffusion process with betas");
}

Test(api_sampler, settings_are_those_of_the_program)
{
    static const char *const eta[] = {"eta=1"}, *const whole[] = {"sample.eta=1"}, *const none[] = {"eta=0"},
                             *const steps[] = {"sampler=heun", "num_inference_steps=4", "guidance=2"};
    float x[4][N * D];
    ddpm_sampler_options o = options("ddim");
    draw(o, labels, NULL, x[0]);
    o.n_settings = 1;
    const char *const *const each[] = {eta, whole, none};
    for (int i = 0; i < 3; i++) {
        o.settings = each[i];
        draw(o, labels, NULL, x[1 + i]);
    }
    cr_expect_arr_eq(x[1], x[2], sizeof x[1]);
    cr_expect_arr_eq(x[0], x[3], sizeof x[0]);
    cr_expect(rel_l2(x[1], x[0], N * D) > 0.01);
    o.n_settings = 3, o.settings = steps; /* settings come after the fields */
    ddpm_sampler *s = create(o);
    cr_expect_eq(ddpm_sampler_evaluations(s), 7);
    ddpm_sampler_destroy(s);
}

Test(api_sampler, settings_that_mean_nothing_here_are_refused)
{
    static const char *const bad[][2] = {
        {"from=a.png", "setting from=a.png: images, labels and masks are passed as arrays"},
        {"sample.mask=a.png", "are passed as arrays"},
        {"between=a,b", "are passed as arrays"},
        {"labels=0-3", "are passed as arrays"},
        {"strength=0.5", "setting strength=0.5: this is a field of ddpm_sampler_options"},
        {"batch=3", "is a field"},
        {"sample.seed=3", "is a field"},
        {"out=x", "concerns the files of `ddpm sample`, not a sampler"},
        {"count=3", "concerns the files"},
        {"ids=0-3", "concerns the files"},
        {"seeds=0-3", "concerns the files"},
        {"sample.seeds=0-3", "concerns the files"},
        {"weights=raw", "concerns the files"},
        {"trajectory=4", "concerns the files"},
        {"every=4", "concerns the files"},
        {"format=npz", "concerns the files"},
        {"etta=1", "eta"},
        {"train.lr=1", "train.lr"},
        {"device=cpu", "device"},
        {"eta", "eta"},
        {"", ""},
        {"=1", ""},
        {"eta=", "eta"},
        {"eta=two", "eta"},
        {"eta=2", "eta: 2 is out of range"},
        {"order=9", "order: 9 is out of range"},
        {"clip=perhaps", "clip"},
        {"guidance_interval=[5,1]", "guidance_interval: must be two noise levels [LOW, HIGH], the lower one first"},
        {"guidance_interval=5", "guidance_interval: must be two noise levels"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) refused_setting(bad[i][0], bad[i][1]);
    refused_setting(NULL, "a setting is NULL");
    char text[5000];
    memset(text, 'e', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    refused_setting(text, "");
    ddpm_sampler_options o = options("ddim");
    o.n_settings = 2;
    refused(o, "n_settings is 2, and settings is NULL");
    o.n_settings = -1;
    refused(o, "n_settings is -1");
}

/* ---- guidance and labels ---- */

Test(api_sampler, guidance_of_1_is_none_and_labels_matter)
{
    static const int others[N] = {2, 1, 3};
    float none[N * D], one[N * D], three[N * D], x[N * D];
    ddpm_sampler_options o = options("ddim");
    draw(o, labels, NULL, none);
    o.guidance = 1;
    draw(o, labels, NULL, one);
    o.guidance = 3;
    draw(o, labels, NULL, three);
    cr_expect_arr_eq(none, one, sizeof none);
    cr_expect(rel_l2(three, one, N * D) > 0.01);
    draw(o, others, NULL, x);
    for (int i = 0; i < N; i++) {
        const double error = rel_l2(x + i * D, three + i * D, D);
        cr_expect(i == 1 ? error > 0.01 : error < 1e-5, "image %d: %g", i, error);
    }
    ddpm_sampler *s = create(o); /* no labels: the null class, which guides nothing */
    cr_expect_eq(ddpm_sampler_run(s, N, ids, x), DDPM_OK, "%s", ddpm_last_error(ctx));
    ddpm_sampler_destroy(s);
    static const int null[N] = {4, 4, 4};
    o.guidance = 0;
    draw(o, null, NULL, none);
    cr_expect(rel_l2(x, none, N * D) < 1e-4, "%g", rel_l2(x, none, N * D));
}

Test(api_sampler, labels_and_guidance_out_of_range_are_refused)
{
    static const int high[N] = {2, 0, 5}, low[N] = {2, -2, 0};
    float x[N * D];
    ddpm_sampler *s = create(options("ddim"));
    ddpm_sampler_input in = input(high, NULL);
    expect_said(ddpm_sampler_run_input(s, &in, x), "label 5 is not in [0, 5)");
    in = input(low, NULL);
    expect_said(ddpm_sampler_run_input(s, &in, x), "label -2 is not in [0, 5)");
    in = input(labels, NULL);
    cr_expect_eq(ddpm_sampler_run_input(s, &in, x), DDPM_OK, "a refusal leaves the sampler usable");
    ddpm_sampler_destroy(s);
    static const double bad[] = {-1, 1e9, NAN, INFINITY};
    for (int i = 0; i < 4; i++) {
        ddpm_sampler_options o = options("ddim");
        o.guidance = bad[i];
        refused(o, "guidance");
    }
    static const char *const null = "null_class=5";
    ddpm_sampler_options o = options("ddim");
    o.guidance = 2, o.n_settings = 1, o.settings = &null;
    refused(o, "null_class 5 is not below num_class_embeds = 5");
}

Test(api_sampler, a_network_without_classes_has_no_labels)
{
    char dir[PATH_CAP];
    ddpm_model *all = m, *none;
    float x[16] = {0}, t[1] = {3}, out[16];
    cr_expect_eq(ddpm_model_classes(m), 5);
    cr_expect_eq(ddpm_model_classes(NULL), 0);
    cr_assert_eq(ddpm_model_load(ctx, golden_path(dir, "pipeline/current"), &none), DDPM_OK, "%s",
                 ddpm_last_error(ctx));
    cr_expect_eq(ddpm_model_classes(none), 0);
    expect_said(ddpm_model_predict_labels(none, 1, x, t, labels, out),
                "the network has no classes; labels must be NULL");
    cr_expect_eq(ddpm_model_predict_labels(none, 1, x, t, NULL, out), DDPM_OK, "%s", ddpm_last_error(ctx));
    m = none;
    ddpm_sampler_options o = options("ddim");
    o.guidance = 2;
    refused(o, "guidance 2 needs a network with classes, and this one has none");
    ddpm_sampler *s = create(options("ddim"));
    const ddpm_sampler_input in = input(labels, NULL);
    expect_said(ddpm_sampler_run_input(s, &in, x), "the network has no classes; labels must be NULL");
    ddpm_sampler_destroy(s);
    ddpm_model_destroy(none);
    m = all;
}

/* A row of the output belongs to its x, t and label alone. */
Test(api_sampler, predictions_have_labels)
{
    static const int of[N] = {2, -1, 3}, bad[N] = {0, 5, 1}, worse[N] = {0, 1, -2};
    float t[N] = {10, 500, 999}, all[N * D], none[N * D], one[D];
    cr_assert_eq(ddpm_model_predict_labels(m, N, start, t, of, all), DDPM_OK, "%s", ddpm_last_error(ctx));
    cr_assert_eq(ddpm_model_predict(m, N, start, t, none), DDPM_OK, "%s", ddpm_last_error(ctx));
    for (int i = 0; i < N; i++) {
        cr_assert_eq(ddpm_model_predict_labels(m, 1, start + i * D, t + i, of + i, one), DDPM_OK);
        cr_expect(rel_l2(one, all + i * D, D) < 1e-5, "row %d", i);
        const double error = rel_l2(none + i * D, all + i * D, D);
        cr_expect(of[i] < 0 ? error == 0 : error > 1e-3, "row %d: %g", i, error);
    }
    expect_said(ddpm_model_predict_labels(m, N, start, t, bad, all), "labels[1] = 5 is not in [0, 5), and not -1");
    expect_said(ddpm_model_predict_labels(m, N, start, t, worse, all), "labels[2] = -2 is not in [0, 5)");
    cr_expect_eq(ddpm_model_predict_labels(NULL, N, start, t, of, all), DDPM_EINVAL);
    expect_said(ddpm_model_predict_labels(m, N, NULL, t, of, all), "must not be NULL");
    expect_said(ddpm_model_predict_labels(m, 0, start, t, of, all), "n = 0");
}

/* ---- from images, and masks ---- */

Test(api_sampler, strength_starts_from_images)
{
    float x[N * D], in_place[N * D], other[N * D];
    ddpm_sampler_options o = options("ddim");
    o.strength = 0.5;
    ddpm_sampler *s = create(o);
    cr_expect_eq(ddpm_sampler_evaluations(s), STEPS / 2);
    ddpm_sampler_destroy(s);
    draw(o, labels, start, x);
    memcpy(in_place, start, sizeof start);
    draw(o, labels, in_place, in_place);
    cr_expect_arr_eq(x, in_place, sizeof x);
    memcpy(other, start, sizeof start);
    for (int i = 0; i < D; i++) other[D + i] = -other[D + i];
    draw(o, labels, other, other);
    for (int i = 0; i < N; i++) cr_expect_eq(rel_l2(other + i * D, x + i * D, D) > 1e-3, i == 1, "image %d", i);
    o.strength = 1;
    s = create(o);
    cr_expect_eq(ddpm_sampler_evaluations(s), STEPS);
    ddpm_sampler_destroy(s);
    static const double bad[] = {-0.5, 1.5, NAN, INFINITY, 1e-9};
    for (int i = 0; i < 5; i++) {
        o.strength = bad[i];
        refused(o, "strength");
    }
    o.strength = 0.05;
    refused(o, "strength: so small that none of the 10 steps is left");
}

Test(api_sampler, images_are_given_if_and_only_if_they_are_needed)
{
    float x[N * D];
    ddpm_sampler_options o = options("ddim");
    ddpm_sampler *s = create(o);
    ddpm_sampler_input in = input(labels, start);
    expect_said(ddpm_sampler_run_input(s, &in, x), "the sampler starts from noise; input->images must be NULL");
    ddpm_sampler_destroy(s);
    o.strength = 0.5;
    s = create(o);
    in = input(labels, NULL);
    expect_said(ddpm_sampler_run_input(s, &in, x), "starts from images or has a mask; input->images must not be NULL");
    expect_said(ddpm_sampler_run(s, N, ids, x), "input->images must not be NULL");
    ddpm_sampler_destroy(s);
}

/* RePaint jumps by default; the mask is the library's own copy. */
Test(api_sampler, a_mask_keeps_the_image_to_the_bit)
{
    static const char *const no_jumps = "jump_n_sample=1";
    float x[N * D];
    uint8_t given[SIDE * SIDE];
    ddpm_sampler_options o = options("ddim");
    memcpy(given, mask, sizeof mask);
    o.mask = given, o.n_settings = 1, o.settings = &no_jumps;
    for (int k = 0; k < 2; k++) {
        if (k) o.strength = 0.7;
        ddpm_sampler *s = create(o);
        cr_expect_eq(ddpm_sampler_evaluations(s), k ? 7 : STEPS);
        memset(given, 1, sizeof given);
        const ddpm_sampler_input in = input(labels, start);
        cr_assert_eq(ddpm_sampler_run_input(s, &in, x), DDPM_OK, "%s", ddpm_last_error(ctx));
        ddpm_sampler_destroy(s);
        memcpy(given, mask, sizeof mask);
        int changed = 0;
        for (int i = 0; i < N * D; i++)
            if (mask[i / C % (SIDE * SIDE)])
                changed += x[i] != start[i];
            else
                cr_assert_eq(x[i], start[i], "at %d", i);
        cr_expect_gt(changed, D);
    }
    o.strength = 0, o.num_inference_steps = 30, o.n_settings = 0;
    ddpm_sampler *s = create(o);
    cr_expect_eq(ddpm_sampler_evaluations(s), 30 + 2 * 9 * 10);
    ddpm_sampler_destroy(s);
    o.sampler = "unipc";
    refused(o, "resampling needs a sampler without memory of earlier steps");
}

Test(api_sampler, an_input_that_is_none_is_refused)
{
    float x[N * D];
    ddpm_sampler *s = create(options(NULL));
    ddpm_sampler_input in = input(NULL, NULL);
    expect_said(ddpm_sampler_run_input(s, NULL, x), "input is NULL, or its struct_size is not");
    in.struct_size = 8;
    expect_said(ddpm_sampler_run_input(s, &in, x), "input is NULL, or its struct_size is not");
    in = input(NULL, NULL), in.n = 0;
    expect_said(ddpm_sampler_run_input(s, &in, x), "n = 0");
    in = input(NULL, NULL), in.ids = NULL;
    expect_said(ddpm_sampler_run_input(s, &in, x), "must not be NULL");
    in = input(NULL, NULL);
    expect_said(ddpm_sampler_run_input(s, &in, NULL), "must not be NULL");
    cr_expect_eq(ddpm_sampler_run_input(NULL, &in, x), DDPM_EINVAL);
    const int64_t high[N] = {0, 4294967296, 1};
    in.ids = high;
    expect_said(ddpm_sampler_run_input(s, &in, x), "ids[1] = 4294967296");
    ddpm_sampler_destroy(s);
}
