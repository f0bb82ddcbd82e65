/* Whole runs on the emulated device: steps are enqueued ahead and their results read later, the data set is in device
 * memory, and a run that does not fit reports which batch size does. */
#include "backend/cuda/cuda_backend.h"
#include "base/file.h"
#include "base/mem.h"
#include "emu/emu_control.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"
#include "time_mlp.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static err why;
static char root[PATH_CAP];

static void make_root(void) { scratch_make(root); }
static void remove_root(void)
{
    emu_reset();
    scratch_remove(root);
}

TestSuite(cuda_training_run, .init = make_root, .fini = remove_root, .timeout = 1800);

static void tiny(ddpm_config *c, const char *name)
{
    static const char *const settings[] = {"device=cuda",
                                           "data.count=7",
                                           "model.block_out_channels=4,8",
                                           "model.norm_num_groups=2",
                                           "train.batch=2",
                                           "train.steps=5",
                                           NULL};
    small_run(c, root, name, settings);
}

static ddpm_status train(const ddpm_config *c, run_record *w)
{
    backend *be;
    backend_spec spec;
    autotune_files files;
    const run_hooks hooks = run_record_hooks(w);
    OK(recipe_backend(c, c->out, &files, &spec, &why));
    OK(backend_create(&spec, &be, &why));
    why.text[0] = '\0';
    const ddpm_status st = run_train(be, c, &hooks, &why);
    backend_destroy(be);
    cr_expect_eq(emu_live_total(), 0);
    return st;
}

static void expect_same_weights(const ddpm_config *a, const ddpm_config *b)
{
    const char *const weights = "ckpt/step_00000005/training/weights.safetensors";
    cr_expect(same_bytes(in_dir(a->out, weights), in_dir(b->out, weights)), "%s and %s end differently", a->out,
              b->out);
}

static ddpm_config whole, other;

Test(cuda_training_run, every_word_of_without_leaves_its_optimization_out)
{
#define WORD_TEXT(NAME, word, bit) #word,
    static const char *const words[] = {CUDA_OPT_LIST(WORD_TEXT)};
    for (int i = 0; i < (int)(sizeof words / sizeof *words); i++) {
        char setting[64];
        autotune_files files;
        backend_spec spec;
        backend *be;
        tiny(&whole, words[i]);
        (void)snprintf(setting, sizeof setting, "cuda.disable=[side, %s]", words[i]);
        config_put(&whole, setting);
        OK(recipe_backend(&whole, whole.out, &files, &spec, &why));
        cr_expect_eq(spec.disabled, CUDA_OPT_SIDE | 1u << i, "%s is %#x", setting, spec.disabled);
        OK(backend_create(&spec, &be, &why));
        cr_expect_eq(be->bias_sums, !(spec.disabled & CUDA_OPT_BIAS_SUMS));
        cr_expect_eq(be->time_mlp, spec.disabled & CUDA_OPT_TIME_MLP ? 0 : TIME_MLP_WIDEST);
        backend_destroy(be);
    }
}

Test(cuda_training_run, what_is_looked_at_later_is_the_same)
{
    static run_record each, late;
    tiny(&whole, "each");
    tiny(&other, "late");
    config_put(&other, "log.every=100");
    OK(train(&whole, &each));
    OK(train(&other, &late));
    cr_expect(strstr(each.notes, "with the whole data set"), "%s", each.notes);
    cr_expect_eq(each.steps, 5);
    cr_expect_eq(late.steps, 5);
    cr_expect_arr_eq(each.loss, late.loss, sizeof each.loss);
    expect_same_weights(&whole, &other);
}

Test(cuda_training_run, images_from_the_host_are_the_same)
{
    static run_record w;
    tiny(&whole, "resident");
    tiny(&other, "loaded");
    config_put(&other, "data.resident=false");
    OK(train(&whole, &w));
    w = (run_record){0};
    OK(train(&other, &w));
    cr_expect_not(strstr(w.notes, "with the whole data set"), "%s", w.notes);
    expect_same_weights(&whole, &other);
}

Test(cuda_training_run, labels_from_the_host_are_the_same)
{
    static run_record w;
    ddpm_config *const runs[] = {&whole, &other};
    for (int i = 0; i < 2; i++) {
        tiny(runs[i], i ? "loaded" : "resident");
        config_put(runs[i], "model.num_class_embeds=-1");
        config_put(runs[i], "train.label_dropout=0.3");
        if (i) config_put(runs[i], "data.resident=false");
        w = (run_record){0};
        OK(train(runs[i], &w));
    }
    expect_same_weights(&whole, &other);
}

Test(cuda_training_run, resumed_equals_uninterrupted_to_the_bit)
{
    static run_record w;
    tiny(&whole, "whole");
    tiny(&other, "parts");
    config_put(&other, "resume=auto");
    OK(train(&whole, &w));
    w = (run_record){.stop_at = 2};
    cr_assert_eq(train(&other, &w), DDPM_ESAVED, "%s", why.text);
    w = (run_record){0};
    OK(train(&other, &w));
    expect_same_weights(&whole, &other);
}

/* Two timesteps, drawn by their losses when each has ten of them. */
static void by_loss(ddpm_config *c, const char *name, const char *accumulation)
{
    tiny(c, name);
    config_put(c, "train.batch=6");
    config_put(c, accumulation);
    c->train.batch /= c->train.gradient_accumulation_steps;
    config_put(c, "diffusion.num_train_timesteps=2");
    config_put(c, "train.timestep_sampling=loss_second_moment");
}

static void expect_resumed_by_loss(const char *accumulation)
{
    static const char *const losses = "ckpt/step_00000005/training/losses.safetensors";
    static run_record w;
    by_loss(&whole, "whole", accumulation);
    by_loss(&other, "parts", accumulation);
    config_put(&other, "resume=auto");
    OK(train(&whole, &w));
    w = (run_record){.stop_at = 4};
    cr_assert_eq(train(&other, &w), DDPM_ESAVED, "%s", why.text);
    w = (run_record){0};
    OK(train(&other, &w));
    expect_same_weights(&whole, &other);
    cr_expect(same_bytes(in_dir(whole.out, losses), in_dir(other.out, losses)));
}

Test(cuda_training_run, timesteps_drawn_by_their_losses)
{
    expect_resumed_by_loss("train.gradient_accumulation_steps=1");
}
Test(cuda_training_run, the_same_with_accumulation) { expect_resumed_by_loss("train.gradient_accumulation_steps=2"); }

Test(cuda_training_run, the_suggested_batch_fits)
{
    static run_record w;
    char setting[64];
    tiny(&whole, "large");
    config_put(&whole, "train.batch=200");
    config_put(&whole, "train.steps=1");
    emu_get_device()->total = (size_t)3 << 20;
    cr_assert_eq(train(&whole, &w), DDPM_ENOMEM, "%s", why.text);
    const char *fits = strstr(why.text, ": train.batch=");
    cr_assert_not_null(fits, "%s", why.text);
    const int batch = atoi(fits + strlen(": train.batch="));
    cr_assert(batch > 1 && batch < 200, "%s", why.text);
    (void)snprintf(setting, sizeof setting, "train.batch=%d", batch);
    config_put(&whole, setting);
    OK(train(&whole, &w));
}

/* The least memory with which a run begins is enough for its previews and checkpoints. */
Test(cuda_training_run, what_begins_has_memory_for_previews)
{
    static run_record w;
    tiny(&whole, "previews");
    config_put(&whole, "train.steps=2");
    config_put(&whole, "ckpt.every=2");
    config_put(&whole, "sample.every=2");
    config_put(&whole, "sample.count=4");
    config_put(&whole, "sample.num_inference_steps=2");
    ddpm_status st = DDPM_ENOMEM;
    for (size_t total = (size_t)200 << 10; st == DDPM_ENOMEM; total += (size_t)8 << 10) {
        cr_assert_lt(total, (size_t)64 << 20, "%s", why.text);
        emu_get_device()->total = total;
        w = (run_record){0};
        st = train(&whole, &w);
        cr_assert(st == DDPM_OK || w.steps == 0, "%s after %d steps", why.text, w.steps);
    }
    OK(st);
    cr_expect(path_exists(in_dir(whole.out, "ckpt/step_00000002")));
    cr_expect(path_exists(in_dir(whole.out, "samples/step_00000002.png")), "%s", w.notes);
}

Test(cuda_training_run, the_suggested_checkpointing_fits)
{
    static run_record w, lean;
    tiny(&whole, "checkpointing");
    config_put(&whole, "train.batch=40");
    config_put(&whole, "train.steps=1");
    OK(train(&whole, &w));
    const char *all = strstr(w.notes, " inputs");
    cr_assert_not_null(all, "%s", w.notes);
    all = strstr(all, "; ");
    const double mib = all ? atof(all + 2) : 0;
    cr_assert(mib > 1, "%s", w.notes);
    emu_get_device()->total = (size_t)((mib - 0.12) * (1 << 20));
    tiny(&other, "lean");
    config_put(&other, "train.batch=40");
    config_put(&other, "train.steps=1");
    cr_assert_eq(train(&other, &lean), DDPM_ENOMEM, "%s", why.text);
    cr_assert_not_null(strstr(why.text, "train.gradient_checkpointing=true"), "%s", why.text);
    config_put(&other, "train.gradient_checkpointing=true");
    OK(train(&other, &lean));
    cr_expect(lean.steps == 1 && lean.loss[0] == w.loss[0], "loss %.9g and %.9g", (double)lean.loss[0],
              (double)w.loss[0]);
}

Test(cuda_training_run, no_batch_fits)
{
    static run_record w;
    tiny(&whole, "none");
    emu_get_device()->total = (size_t)100 << 10;
    cr_assert_eq(train(&whole, &w), DDPM_ENOMEM, "%s", why.text);
    cr_expect(strstr(why.text, "not even a batch of 1 fits"), "%s", why.text);
}
