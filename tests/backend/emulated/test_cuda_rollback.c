/* Trainings on the emulated device with steps that are not finite: their results are read late, so a rollback drops steps
 * that were launched since. */
#include "backend/cuda/cuda_backend.h"
#include "base/file.h"
#include "base/mem.h"
#include "emu/emu_control.h"
#include "ir/operands.h"
#include "support/faulty_backend.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <string.h>

static err why;
static char root[PATH_CAP];

static void make_root(void) { scratch_make(root); }
static void remove_root(void)
{
    emu_reset();
    scratch_remove(root);
}

TestSuite(cuda_rollback, .init = make_root, .fini = remove_root, .timeout = 1800);

enum { BATCH = 2, END = 10 };
#define LAYER "mid_block.resnets.0.conv1"

static fault in_steps(uint64_t from, uint64_t to)
{
    return (fault){.path = LAYER, .op = OP_conv2d, .out = CONV_Y, .first = (from - 1) * BATCH, .last = to * BATCH - 1};
}

static void small(ddpm_config *c, const char *name, const char *setting)
{
    static const char *const settings[] = {"device=cuda",
                                           "data.count=7",
                                           "model.block_out_channels=4,8",
                                           "model.norm_num_groups=2",
                                           "train.batch=2",
                                           "train.steps=10",
                                           "train.max_skipped=2",
                                           "ckpt.every=2",
                                           NULL};
    small_run(c, root, name, settings);
    config_put(c, setting);
}

static ddpm_status train(const ddpm_config *c, const fault *faults, run_record *w)
{
    backend *be;
    backend_spec spec;
    autotune_files files;
    *w = (run_record){0};
    const run_hooks hooks = run_record_hooks(w);
    OK(recipe_backend(c, c->out, &files, &spec, &why));
    OK(backend_create(&spec, &be, &why));
    const backend_table *fn = be->fn;
    faulty_wrap(be, faults);
    why.text[0] = '\0';
    const ddpm_status st = run_train(be, c, &hooks, &why);
    be->fn = fn;
    backend_destroy(be);
    cr_expect_eq(emu_live_total(), 0);
    return st;
}

static void expect_same_weights(const ddpm_config *a, const ddpm_config *b)
{
    static const char *const files[] = {"ckpt/step_00000010/training/weights.safetensors",
                                        "ckpt/step_00000010/training/exp_avg.safetensors",
                                        "ckpt/step_00000010/training/state.json"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        cr_expect(same_bytes(in_dir(a->out, files[i]), in_dir(b->out, files[i])), "%s of %s and %s", files[i], a->out,
                  b->out);
}

static ddpm_config whole, other;

static void expect_said(const run_record *w, const char *words)
{
    cr_expect_not_null(strstr(w->notes, words), "%s\n%s", words, w->notes);
}

/* A data set on the device or on the host, results read after every step or late. */
Test(cuda_rollback, is_the_same_wherever_the_images_are_and_whenever_results_are_read)
{
    static run_record w;
    const fault bad[] = {in_steps(6, 7), {.path = NULL}};
    small(&whole, "whole", "data.resident=auto");
    OK(train(&whole, bad, &w));
    expect_said(&w, "first non-finite values: output of " LAYER " (forward)");
    expect_said(&w, "rollback 1 of 3: from step 7 to ");
    expect_said(&w, "/step_00000004; samples 8 to 13 are left out (10 to 13 were in skipped steps)");
    small(&other, "loaded", "data.resident=false");
    OK(train(&other, bad, &w));
    expect_same_weights(&whole, &other);
    small(&other, "late", "ckpt.every=4");
    config_put(&other, "log.every=100");
    OK(train(&other, bad, &w));
    expect_said(&w, "rollback 1 of 3: from step 7 to ");
    expect_same_weights(&whole, &other);
}

/* With low-precision activations and gradients of accumulated micro-batches. */
Test(cuda_rollback, gradients_are_named_and_the_search_changes_nothing)
{
    static run_record w;
    fault bad[] = {in_steps(6, 6), {.path = NULL}};
    bad[0].path = "conv_in", bad[0].op = OP_conv2d_dw, bad[0].out = CONV_DW_DW;
    small(&whole, "each", "train.gradient_accumulation_steps=2");
    whole.train.batch = 1;
    OK(train(&whole, bad, &w));
    expect_said(&w, "first non-finite values: gradient of conv_in.weight (backward)");
    small(&other, "late", "train.gradient_accumulation_steps=2");
    other.train.batch = 1;
    config_put(&other, "log.every=100");
    config_put(&other, "ckpt.every=0");
    OK(train(&other, bad, &w)); /* later steps were finite, so step 6 cannot be repeated, and nothing is searched */
    cr_expect_null(strstr(w.notes, "first non-finite"), "%s", w.notes);
    expect_said(&w, "step 6 was skipped");
    expect_same_weights(&whole, &other);
}
