/* Trainings with steps that are not finite: they return to the last good checkpoint and leave the data since out, to the
 * same bits as a run that was begun so; the layer and the images are named. */
#include "io/safetensors.h"
#include "ir/operands.h"
#include "loss_history.h"
#include "support/faulty_backend.h"
#include "train/run_rig.h"

TestSuite(rollback, .init = make_root, .fini = remove_root, .timeout = 300);

enum { BATCH = 6, END = 12 };
#define LAYER "down_blocks.1.resnets.0.conv1"

/* Steps `from` to `to`, counted from 1, of a run that never left samples out. */
static fault in_steps(uint64_t from, uint64_t to)
{
    return (fault){.path = LAYER, .op = OP_conv2d, .out = CONV_Y, .first = (from - 1) * BATCH, .last = to * BATCH - 1};
}

static void small(ddpm_config *c, const char *name)
{
    tiny(c, name);
    config_put(c, "train.steps=12");
    config_put(c, "train.max_skipped=3");
    config_put(c, "ckpt.every=3");
    config_put(c, "resume=auto");
}

static run_record said;

static ddpm_status train_with(const ddpm_config *c, const fault *faults, uint64_t stop_at)
{
    backend *be;
    said = (run_record){.stop_at = stop_at};
    const run_hooks hooks = run_record_hooks(&said);
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    const backend_table *fn = be->fn;
    faulty_wrap(be, faults);
    why.text[0] = '\0';
    const ddpm_status st = run_train(be, c, &hooks, &why);
    be->fn = fn;
    backend_destroy(be);
    return st;
}

static const fault none[] = {{.path = NULL}};

/* In the newest checkpoint, of this step, set the ordinal of the next sample. */
static void jump(const ddpm_config *c, int64_t at_step, uint64_t sample)
{
    char name[CHECKPOINT_NAME_CAP], dir[PATH_CAP], path[PATH_CAP], before[40], after[40], all[4096];
    (void)snprintf(dir, sizeof dir, "%.3000s/ckpt/%s", c->out, checkpoint_name(name, at_step));
    OK(path_join(path, dir, "training/state.json", &why));
    char *text = get_text(path);
    (void)snprintf(before, sizeof before, "\"sample\": %lld,", (long long)at_step * BATCH);
    (void)snprintf(after, sizeof after, "\"sample\": %llu,", (unsigned long long)sample);
    const char *at = strstr(text, before);
    cr_assert_not_null(at, "%s", text);
    (void)snprintf(all, sizeof all, "%.*s%s%s", (int)(at - text), text, after, at + strlen(before));
    OK(file_write(path, all, strlen(all), false, &why));
    mem_free(text);
    OK(checkpoint_seal(dir, &why));
}

static void expect_same_metrics(const ddpm_config *a, const ddpm_config *b, int lines)
{
    double x[32], y[32];
    cr_expect_eq(read_losses(a->out, x, 32), lines);
    cr_expect_eq(read_losses(b->out, y, 32), lines);
    for (int i = 0; i < lines; i++) cr_expect_eq(x[i], y[i], "step %d: %.9g and %.9g", i + 1, x[i], y[i]);
}

static void expect_said(const char *words)
{
    cr_expect_not_null(strstr(said.notes, words), "%s\n%s", words, said.notes);
}

/* `whole` meets NaN in steps 5 to 7 and returns to step 3; `parts` is stopped there and continues after step 7's data. */
static void expect_equal_to_jump(const char *setting, const char *also)
{
    const fault bad[] = {in_steps(5, 7), {.path = NULL}};
    small(&whole, "whole");
    small(&parts, "parts");
    config_put(&whole, setting);
    config_put(&parts, setting);
    config_put(&whole, also);
    config_put(&parts, also);
    const int accumulated = whole.train.gradient_accumulation_steps;
    whole.train.batch /= accumulated, parts.train.batch /= accumulated;
    OK(train_with(&whole, bad, 0));
    expect_said("WARNING: rollback 1 of 3: from step 7 to ");
    expect_said("/step_00000003; samples 18 to 41 are left out (24 to 41 were in skipped steps); "
                "the schedule of the learning rate is unchanged");
    cr_assert_eq(train_with(&parts, none, 3), DDPM_ESAVED, "%s", why.text);
    jump(&parts, 3, 7 * BATCH);
    OK(train_with(&parts, none, 0));
    expect_same_end(&whole, &parts, END);
    expect_same_metrics(&whole, &parts, END);
}

Test(rollback, equals_a_run_that_never_saw_the_bad_samples) { expect_equal_to_jump("seed=0", "seed=0"); }
Test(rollback, with_accumulation_as_well) { expect_equal_to_jump("seed=0", "train.gradient_accumulation_steps=2"); }
Test(rollback, from_images_that_are_decoded_at_every_read) { expect_equal_to_jump("seed=0", "data.cache_mb=0"); }

/* The history of the losses is that of the checkpoint. */
Test(rollback, with_timesteps_drawn_by_their_losses)
{
    expect_equal_to_jump("train.timestep_sampling=loss_second_moment", "diffusion.num_train_timesteps=2");
    expect_same_file(whole.out, parts.out, "ckpt/step_00000012/training/losses.safetensors");
}

/* No loss of a skipped step enters the history, though most of them are finite. */
Test(rollback, leaves_skipped_steps_out_of_the_history_of_losses)
{
    const fault bad[] = {in_steps(5, 6), {.path = NULL}};
    float count = 0, losses[20 * HISTORY_COLUMNS];
    safetensors *file;
    small(&whole, "whole");
    config_put(&whole, "train.timestep_sampling=loss_second_moment");
    config_put(&whole, "diffusion.num_train_timesteps=20");
    OK(train_with(&whole, bad, 0));
    OK(safetensors_open(in_dir(whole.out, "ckpt/step_00000012/training/losses.safetensors"), &file, &why));
    OK(safetensors_to_f32(safetensors_find(file, "losses"), losses, &why));
    for (int t = 0; t < 20; t++) count += losses[t * HISTORY_COLUMNS + HISTORY_COUNT];
    for (int i = 0; i < 20 * HISTORY_COLUMNS; i++) cr_expect(isfinite(losses[i]));
    cr_expect_eq(count, (END - 2) * BATCH);
    safetensors_close(file);
}

/* The last steps may be the bad ones: fewer than max_skipped of them, of which nothing is saved. */
Test(rollback, from_the_last_steps_as_well)
{
    const fault bad[] = {in_steps(11, 12), {.path = NULL}};
    small(&whole, "whole");
    small(&parts, "parts");
    OK(train_with(&whole, bad, 0));
    expect_said("WARNING: rollback 1 of 3: from step 12 to ");
    expect_said("/step_00000009; samples 54 to 71 are left out (60 to 71 were in skipped steps)");
    cr_assert_eq(train_with(&parts, none, 9), DDPM_ESAVED, "%s", why.text);
    jump(&parts, 9, 12 * BATCH);
    OK(train_with(&parts, none, 0));
    static const char *const files[] = {"training/weights.safetensors", "training/exp_avg.safetensors",
                                        "training/exp_avg_sq.safetensors", "unet/diffusion_pytorch_model.safetensors"};
    char a[PATH_CAP], b[PATH_CAP];
    OK(path_join(a, whole.out, "ckpt/step_00000012", &why));
    OK(path_join(b, parts.out, "ckpt/step_00000012", &why));
    for (int i = 0; i < 4; i++) expect_same_file(a, b, files[i]); /* state.json counts the rollback still */
    expect_same_metrics(&whole, &parts, END);
}

Test(rollback, differs_from_the_run_without_bad_samples)
{
    const fault bad[] = {in_steps(5, 7), {.path = NULL}};
    small(&whole, "whole");
    small(&parts, "parts");
    OK(train_with(&whole, bad, 0));
    OK(train_with(&parts, none, 0));
    const char *const weights = "ckpt/step_00000012/training/weights.safetensors";
    cr_assert_not(same_bytes(in_dir(whole.out, weights), in_dir(parts.out, weights)));
}

/* What the run computed before is set aside, not lost: the metrics, and a checkpoint that no finite step followed. */
Test(rollback, passes_over_a_checkpoint_that_no_finite_step_followed)
{
    double loss[32];
    const fault bad[] = {in_steps(7, 9), {.path = NULL}};
    small(&whole, "whole");
    OK(train_with(&whole, bad, 0));
    expect_said("from step 9 to ");
    expect_said("/step_00000003; samples 18 to 53 are left out (36 to 53 were in skipped steps)");
    cr_expect(path_exists(in_dir(whole.out, "ckpt/superseded_001/step_00000006")));
    cr_expect_eq(read_losses(in_dir(whole.out, "ckpt/superseded_001"), loss, 32), 8, "of step 9 nothing is known yet");
    cr_expect_eq(read_losses(whole.out, loss, 32), END);
}

/* After the first rollback step 7 has the samples of what would have been step 13: step 6 is set aside twice. */
Test(rollback, sets_a_step_aside_as_often_as_needed)
{
    const fault bad[] = {in_steps(7, 9), in_steps(13, 15), {.path = NULL}};
    small(&whole, "whole");
    OK(train_with(&whole, bad, 0));
    expect_said("rollback 2 of 3: from step 9 to ");
    cr_expect(path_exists(in_dir(whole.out, "ckpt/superseded_001/step_00000006")));
    cr_expect(path_exists(in_dir(whole.out, "ckpt/superseded_002/step_00000006")));
}

static void flip_last_byte(const char *path)
{
    FILE *f = fopen(path, "r+b");
    cr_assert_eq(fseek(f, -1, SEEK_END), 0);
    const int c = fgetc(f);
    cr_assert_eq(fseek(f, -1, SEEK_END), 0);
    (void)fputc(c ^ 1, f);
    cr_assert_eq(fclose(f), 0);
}

static const char *damaged;
static void damage_at_step_8(void *context, const run_status *status)
{
    if (status->state->step == 8 && damaged) flip_last_byte(damaged);
    damaged = status->state->step == 8 ? NULL : damaged;
    run_record_hooks(context).step(context, status);
}

Test(rollback, passes_over_a_damaged_checkpoint)
{
    const fault bad[] = {in_steps(8, 10), {.path = NULL}};
    char path[PATH_CAP];
    backend *be;
    small(&whole, "whole");
    (void)snprintf(path, sizeof path, "%.3000s/ckpt/step_00000006/training/exp_avg.safetensors", whole.out);
    damaged = path;
    said = (run_record){0};
    run_hooks hooks = run_record_hooks(&said);
    hooks.step = damage_at_step_8;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    const backend_table *fn = be->fn;
    faulty_wrap(be, bad);
    OK(run_train(be, &whole, &hooks, &why));
    be->fn = fn;
    backend_destroy(be);
    expect_said("exp_avg.safetensors: damaged");
    expect_said("/step_00000003; samples 18 to 59 are left out");
}

/* ---- how often ---- */

static void expect_why(const char *words) { cr_expect_not_null(strstr(why.text, words), "%s", why.text); }

Test(rollback, ends_after_the_third_that_does_not_help)
{
    const fault bad[] = {in_steps(5, 1000), {.path = NULL}};
    small(&whole, "whole");
    cr_assert_eq(train_with(&whole, bad, 0), DDPM_EDIVERGED, "%s", why.text);
    expect_said("rollback 1 of 3: from step 7 to ");
    expect_said("rollback 2 of 3: from step 6 to ");
    expect_said("rollback 3 of 3: from step 6 to ");
    cr_expect_null(strstr(said.notes, "rollback 4"));
    expect_why("3 consecutive steps were not finite and not saved after 3 rollbacks; step_00000003 is undamaged, and "
               "resume=auto continues from it; use a smaller train.lr");
}

Test(rollback, zero_rollbacks_end_at_once)
{
    const fault bad[] = {in_steps(5, 7), {.path = NULL}};
    small(&whole, "whole");
    config_put(&whole, "train.max_rollbacks=0");
    cr_assert_eq(train_with(&whole, bad, 0), DDPM_EDIVERGED, "%s", why.text);
    cr_expect_null(strstr(said.notes, "rollback 1"), "%s", said.notes);
    expect_why("3 consecutive steps were not finite and not saved; step_00000003 is undamaged");
}

Test(rollback, needs_a_checkpoint)
{
    const fault bad[] = {in_steps(2, 4), {.path = NULL}};
    small(&whole, "whole");
    cr_assert_eq(train_with(&whole, bad, 0), DDPM_EDIVERGED, "%s", why.text);
    expect_why("the run has no checkpoint, and its last finite step was 1, so nothing of it is kept: the same command "
               "begins again; a smaller ckpt.every allows rollbacks");
    OK(train_with(&whole, none, 0)); /* it does */
    expect_said("start: seed 0");
    const fault first[] = {in_steps(1, 3), {.path = NULL}};
    small(&whole, "first");
    cr_assert_eq(train_with(&whole, first, 0), DDPM_EDIVERGED, "%s", why.text);
    expect_why("the run has no checkpoint, and none of its steps was finite");
    const fault after[] = {in_steps(4, 6), {.path = NULL}};
    small(&whole, "after");
    cr_assert_eq(train_with(&whole, after, 0), DDPM_EDIVERGED, "%s", why.text);
    expect_why("no checkpoint of this run is known to be good: no finite step followed the newest, or it is damaged");
}

/* A run that branched off has nothing of its own yet, but where it began. */
Test(rollback, without_a_checkpoint_names_where_the_run_began)
{
    const fault bad[] = {in_steps(5, 7), {.path = NULL}};
    char setting[PATH_CAP + 8];
    small(&whole, "whole");
    cr_assert_eq(train_with(&whole, none, 4), DDPM_ESAVED, "%s", why.text);
    small(&parts, "branch");
    (void)snprintf(setting, sizeof setting, "resume=%.3000s/ckpt/step_00000004", whole.out);
    config_put(&parts, setting);
    cr_assert_eq(train_with(&parts, bad, 0), DDPM_EDIVERGED, "%s", why.text);
    expect_why("the run has no checkpoint yet, and none of its steps was finite: the same command begins again at ");
    expect_why("whole/ckpt/step_00000004; use a smaller train.lr");
}

/* Two places, with a finite step after the first: each may be tried as often as the option says. */
Test(rollback, is_counted_anew_after_the_place_was_passed)
{
    /* after the first rollback step k has the samples of what would have been step k + 4: steps 9 to 11 are bad */
    const fault bad[] = {in_steps(5, 7), in_steps(13, 15), {.path = NULL}};
    small(&whole, "whole");
    config_put(&whole, "train.max_rollbacks=1");
    OK(train_with(&whole, bad, 0));
    expect_said("rollback 1 of 1: from step 7 to ");
    expect_said("rollback 1 of 1: from step 11 to ");
    char *text = get_text(in_dir(whole.out, "ckpt/step_00000012/training/state.json"));
    cr_expect_not_null(strstr(text, "\"rollbacks\": 0"), "%s", text);
    mem_free(text);
}

/* ---- stops ---- */

/* A stop while steps are being skipped waits for the rollback, whose checkpoint is then the newest. */
Test(rollback, stopped_before_it_ends_the_same)
{
    const fault bad[] = {in_steps(5, 7), {.path = NULL}};
    small(&whole, "whole");
    OK(train_with(&whole, bad, 0));
    for (uint64_t stop = 5; stop < 7; stop++) {
        small(&parts, stop == 5 ? "stopped-at-5" : "stopped-at-6");
        cr_assert_eq(train_with(&parts, bad, stop), DDPM_ESAVED, "%s", why.text);
        expect_why("stopped and saved at step 3");
        OK(train_with(&parts, bad, 0));
        expect_said("rollback 1 of 3: from step 7 to ");
        expect_same_end(&whole, &parts, END);
        expect_same_metrics(&whole, &parts, END);
    }
}

/* ---- what is said ---- */

static void expect_located(const fault *bad, const char *words)
{
    static int turn;
    char name[32];
    (void)snprintf(name, sizeof name, "located-%d", turn++);
    small(&whole, name);
    OK(train_with(&whole, bad, 0));
    expect_said(words);
}

Test(rollback, the_first_layer_that_is_not_finite_is_named)
{
    fault bad[] = {in_steps(5, 5), {.path = NULL}};
    expect_located(bad, "(1 skipped so far); first non-finite values: output of " LAYER " (forward)");
    bad[0].path = "conv_out", bad[0].op = OP_conv2d_dw, bad[0].out = CONV_DW_DW;
    expect_located(bad, "first non-finite values: gradient of conv_out.weight (backward)");
    bad[0].path = "up_blocks.0.resnets.0.conv2", bad[0].op = OP_conv2d_dx, bad[0].out = CONV_DX_DX;
    expect_located(bad, "first non-finite values: gradient that leaves up_blocks.0.resnets.0.conv2 (backward)");
    bad[0].path = "loss", bad[0].op = OP_loss, bad[0].out = LOSS_EACH;
    expect_located(bad, "first non-finite values: the loss (forward)");
}

/* The search repeats the step once for a series, and leaves no trace in the results: as the `n` steps from 5 on change
 * no weight, they are those of a run without the samples of these steps, whose counters alone are behind by n. */
static void expect_no_trace(const fault *bad, int n, const char *name)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors", "training/weights.safetensors",
                                        "training/exp_avg.safetensors", "training/exp_avg_sq.safetensors"};
    char a[PATH_CAP], b[PATH_CAP], last[CHECKPOINT_NAME_CAP];
    small(&whole, name);
    (void)snprintf(a, sizeof a, "%s-jumped", name);
    small(&parts, a);
    config_put(&whole, "train.gradient_accumulation_steps=2"), whole.train.batch = 3;
    config_put(&parts, "train.gradient_accumulation_steps=2"), parts.train.batch = 3;
    OK(train_with(&whole, bad, 0));
    const char *at = strstr(said.notes, "first non-finite");
    cr_assert_not_null(at, "%s", said.notes);
    cr_expect_null(strstr(at + 1, "first non-finite"), "%s", said.notes);
    cr_assert_eq(train_with(&parts, none, 4), DDPM_ESAVED, "%s", why.text);
    jump(&parts, 4, (uint64_t)(4 + n) * BATCH);
    parts.train.steps = END - n;
    OK(train_with(&parts, none, 0));
    (void)snprintf(a, sizeof a, "%.3000s/ckpt/step_00000012", whole.out);
    (void)snprintf(b, sizeof b, "%.3000s/ckpt/%s", parts.out, checkpoint_name(last, END - n));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) expect_same_file(a, b, files[i]);
}

Test(rollback, the_search_changes_nothing)
{
    fault bad[] = {in_steps(5, 6), {.path = NULL}};
    expect_no_trace(bad, 2, "forward");
    bad[0] = in_steps(5, 5); /* all gradients have been accumulated when it ends, and the next step is finite */
    bad[0].path = "conv_in", bad[0].op = OP_conv2d_dw, bad[0].out = CONV_DW_DW;
    expect_no_trace(bad, 1, "backward");
}

static const char *skipped_lines(const ddpm_config *c, char *out, size_t cap)
{
    char *text = get_text(in_dir(c->out, "skipped.jsonl"));
    (void)snprintf(out, cap, "%s", text);
    mem_free(text);
    return out;
}

static int count_lines(const char *text)
{
    int n = 0;
    for (; (text = strchr(text, '\n')); text++) n++;
    return n;
}

Test(rollback, the_images_of_skipped_steps_are_written_down)
{
    const fault bad[] = {in_steps(5, 7), {.path = NULL}};
    char text[4096], expected[200];
    small(&whole, "whole");
    config_put(&whole, "ckpt.keep=100");
    OK(train_with(&whole, bad, 0));
    skipped_lines(&whole, text, sizeof text);
    cr_assert_eq(count_lines(text), 3, "%s", text);
    int n = snprintf(expected, sizeof expected,
                     "{\"step\":5,\"loss\":\"nan\",\"grad_norm\":\"nan\",\"first_sample\":24,\"last_sample\":29,"
                     "\"images\":[");
    for (int i = 0; i < BATCH; i++)
        n += snprintf(expected + n, sizeof expected - (size_t)n, "%s%lld", i ? "," : "",
                      (long long)loader_image_index(0, 20, (uint64_t)(24 + i), true));
    (void)snprintf(expected + n, sizeof expected - (size_t)n, "]}\n");
    cr_expect_eq(strncmp(text, expected, strlen(expected)), 0, "%s\n%s", text, expected);
    /* again from step 3, as after a kill: the same steps give the same lines, and none twice */
    char setting[PATH_CAP + 8];
    (void)snprintf(setting, sizeof setting, "resume=%.3000s/ckpt/step_00000003", whole.out);
    config_put(&whole, setting);
    config_put(&whole, "rewind=true");
    OK(train_with(&whole, bad, 0));
    expect_said("rollback 1 of 3");
    skipped_lines(&whole, text, sizeof text);
    cr_expect_eq(count_lines(text), 3, "%s", text);
}

Test(rollback, the_files_of_a_folder_are_named)
{
    const fault bad[] = {in_steps(5, 5), {.path = NULL}};
    uint8_t pixel[8 * 8] = {0};
    image picture = {.h = 8, .w = 8, .c = 1, .pixel = pixel};
    char pictures[PATH_CAP], path[PATH_CAP], setting[PATH_CAP + 16], text[8192];
    OK(path_join(pictures, root, "pictures", &why));
    OK(dir_make(pictures, &why));
    for (int i = 0; i < 20; i++) {
        char name[16];
        pixel[i] = 255;
        (void)snprintf(name, sizeof name, "%02d.png", i);
        OK(path_join(path, pictures, name, &why));
        OK(i == 4 ? file_write(path, "no picture", 10, false, &why) : image_write_png(path, &picture, &why));
    }
    for (int cached = 0; cached < 2; cached++) {
        small(&whole, cached ? "cached" : "read");
        (void)snprintf(setting, sizeof setting, "data.path=%s", pictures);
        config_put(&whole, setting);
        config_put(&whole, "data.kind=folder");
        config_put(&whole, "data.count=0");
        config_put(&whole, "data.max_bad=1");
        if (!cached) config_put(&whole, "data.cache_mb=0");
        OK(train_with(&whole, bad, 0));
        skipped_lines(&whole, text, sizeof text);
        for (uint64_t i = 24; i < 30; i++) {
            const int64_t index = loader_image_index(0, 19, i, true);
            char name[32];
            (void)snprintf(name, sizeof name, "/%02d.png\"", (int)index + (index >= 4)); /* 04.png is bad */
            cr_expect_not_null(strstr(text, name), "%s in %s", name, text);
        }
    }
}

Test(rollback, the_list_of_images_is_bounded)
{
    enum { MOST = 1000 };
    static char before[MOST * 12 + 1];
    const fault bad[] = {in_steps(5, 7), {.path = NULL}};
    small(&whole, "whole");
    cr_assert_eq(train_with(&whole, none, 1), DDPM_ESAVED);
    for (int i = 0; i < MOST; i++) (void)snprintf(before + strlen(before), 13, "{\"step\":%d}\n", 10 + i % 90);
    OK(file_write(in_dir(whole.out, "skipped.jsonl"), before, strlen(before), false, &why));
    OK(train_with(&whole, bad, 0));
    char *after = get_text(in_dir(whole.out, "skipped.jsonl"));
    cr_expect_str_eq(after, before);
    mem_free(after);
}
