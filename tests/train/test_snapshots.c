/* Snapshots of averages during a run, and averages of other widths that are made of them. */
#include "diffusion/power_average.h"
#include "io/safetensors.h"
#include "train/ema_snapshot.h"
#include "train/run_rig.h"

enum { EVERY = 5, STEPS = 40 };

static void snapped(ddpm_config *c, const char *name, const char *widths)
{
    static const char *const settings[] = {"train.steps=40", "ema.decay=0", "train.batch=4", "ema.snapshot_every=5",
                                           NULL};
    tiny(c, name);
    config_put_all(c, settings);
    config_put(c, widths);
}

/* The weights of a run's folder or of a file below it, [*count]. */
static float *weights_in(const char *dir, const char *file, int64_t *count)
{
    safetensors *st;
    float *all;
    *count = 0;
    OK(safetensors_open(in_dir(dir, file), &st, &why));
    for (int i = 0; i < safetensors_count(st); i++)
        *count += (int64_t)(safetensors_entry(st, i)->bytes / safetensors_dtype_size(safetensors_entry(st, i)->dtype));
    OK(mem_array(&all, (size_t)*count, sizeof *all, "weights", &why));
    for (int64_t i = 0, at = 0; i < safetensors_count(st); i++) {
        const safetensors_tensor *t = safetensors_entry(st, (int)i);
        OK(safetensors_to_f32(t, all + at, &why));
        at += (int64_t)(t->bytes / safetensors_dtype_size(t->dtype));
    }
    safetensors_close(st);
    return all;
}

static double distance(const float *a, const float *b, int64_t count)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i++) sum += pow((double)a[i] - (double)b[i], 2);
    return sqrt(sum);
}

#define LAST "ckpt/step_00000040/unet/diffusion_pytorch_model.safetensors"

/* Into FOLDER/made. */
static ddpm_status make(const ddpm_config *c, double sigma_rel, int64_t at, ema_made *made)
{
    backend *be;
    model *m = NULL;
    const ema_request q = {.run = c->out, .sigma_rel = sigma_rel, .at = at, .last = STEPS};
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    OK(model_load(be, c->out, &m, NULL, &why));
    ddpm_status st = ema_synthesize(&q, m, made, &why);
    if (st == DDPM_OK) st = params_save(m->store, ARENA_PARAM, in_dir(c->out, "made.safetensors"), &why);
    model_destroy(m);
    backend_destroy(be);
    return st;
}

/* The wanted average was tracked by a run of its own, whose weights are the same. */
Test(snapshots, another_width_is_made_of_them, .init = make_root, .fini = remove_root)
{
    int64_t n, m;
    ema_made made;
    snapped(&whole, "snapped", "ema.sigma_rel=[0.05,0.1]");
    snapped(&parts, "tracked", "ema.sigma_rel=0.15");
    OK(train(&whole, 0, NULL));
    OK(train(&parts, 0, NULL));
    expect_same_file(whole.out, parts.out, "ckpt/step_00000040/training/weights.safetensors");
    OK(make(&whole, 0.15, 0, &made));
    cr_expect_eq(made.step, STEPS);
    cr_expect_eq(made.snapshots, 2 * STEPS / EVERY);
    cr_expect(made.least < 0 && made.most > 0);
    float *want = weights_in(parts.out, LAST, &n),
          *near = weights_in(whole.out, "ema/step_00000040/ema_1.safetensors", &m);
    cr_assert_eq(m, n);
    float *got = weights_in(whole.out, "made.safetensors", &m);
    cr_assert_eq(m, n);
    cr_expect(distance(got, want, n) < 0.05 * distance(near, want, n), "off by %g, sigma_rel 0.1 by %g",
              distance(got, want, n), distance(near, want, n));
    mem_free(got);
    OK(make(&whole, 0.1, 0, &made)); /* one that was kept */
    got = weights_in(whole.out, "made.safetensors", &m);
    cr_expect(distance(got, near, n) < 1e-3 * distance(near, want, n));
    mem_free(want);
    mem_free(near);
    mem_free(got);
}

/* The averages of a checkpoint, to half precision. */
Test(snapshots, are_the_averages_in_half_precision, .init = make_root, .fini = remove_root)
{
    int64_t n, m;
    snapped(&whole, "snapped", "ema.sigma_rel=[0.05,0.1]");
    OK(train(&whole, 0, NULL));
    float *full = weights_in(whole.out, LAST, &n),
          *half = weights_in(whole.out, "ema/step_00000040/ema_0.safetensors", &m);
    cr_assert_eq(m, n);
    for (int64_t i = 0; i < n; i++)
        cr_assert_float_eq(half[i], full[i], fabsf(full[i]) * 0x1p-11f + 0x1p-25f, "%lld: %.9g, not %.9g", (long long)i,
                           (double)half[i], (double)full[i]);
    mem_free(full);
    mem_free(half);
}

Test(snapshots, of_a_resumed_run_are_the_same, .init = make_root, .fini = remove_root)
{
    snapped(&whole, "whole", "ema.sigma_rel=[0.05,0.1]");
    snapped(&parts, "parts", "ema.sigma_rel=[0.05,0.1]");
    config_put(&whole, "train.steps=15");
    config_put(&parts, "train.steps=15");
    OK(train(&whole, 0, NULL));
    cr_assert_eq(train(&parts, 5, NULL), DDPM_ESAVED); /* at a step of a snapshot */
    config_put(&parts, "resume=auto");
    cr_assert_eq(train(&parts, 12, NULL), DDPM_ESAVED);
    OK(dir_remove(in_dir(parts.out, "ckpt/step_00000012"), &why)); /* as if the machine had failed: goes on from 5 */
    OK(train(&parts, 0, NULL));
    for (int at = EVERY; at <= 15; at += EVERY)
        for (int k = 0; k < 3; k++) {
            char name[64];
            const char *const files[] = {"ema_0.safetensors", "ema_1.safetensors", "snapshot.json"};
            (void)snprintf(name, sizeof name, "ema/step_%08d/%s", at, files[k]);
            expect_same_file(whole.out, parts.out, name);
        }
}

Test(snapshots, what_is_missing_is_said, .init = make_root, .fini = remove_root)
{
    ema_made made;
    snapped(&whole, "snapped", "ema.sigma_rel=[0.05,0.1]");
    config_put(&whole, "train.steps=10");
    OK(train(&whole, 0, NULL));
    OK(make(&whole, 0.15, 5, &made));
    cr_expect_eq(made.step, 5);
    cr_expect_eq(made.snapshots, 2);
    cr_expect_eq(make(&whole, 0.15, 8, &made), DDPM_ENOINPUT);
    cr_expect_not_null(strstr(why.text, "no snapshot of step 8; the last one before it is of step 5"), "%s", why.text);
    OK(file_write(in_dir(whole.out, "ema/step_00000005/snapshot.json"), "{\"format\": 1}\n", 14, false, &why));
    cr_expect_eq(make(&whole, 0.15, 0, &made), DDPM_EDATA);
    cr_expect_not_null(strstr(why.text, "images and gamma are missing"), "%s", why.text);
    OK(dir_remove(in_dir(whole.out, "ema"), &why));
    cr_expect_eq(make(&whole, 0.15, 0, &made), DDPM_ENOINPUT);
    cr_expect_not_null(strstr(why.text, "train with ema.sigma_rel=[0.05,0.1] and ema.snapshot_every=N"), "%s",
                       why.text);
}
