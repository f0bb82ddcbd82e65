/* run_rig.h - a small training in a folder of its own, stopped where a test likes.  For one source a program. */
#ifndef DDPM_TESTS_RUN_RIG_H
#define DDPM_TESTS_RUN_RIG_H
#include "base/file.h"
#include "base/mem.h"
#include "data/image.h"
#include "io/checkpoint_dir.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"
#include "train/checkpoint.h"
#include "train/training_run.h"
#include "train/run_folder.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static err why;
static char root[PATH_CAP];

static inline void make_root(void) { scratch_make(root); }
static inline void remove_root(void) { scratch_remove(root); }

/* A small U-Net with everything that draws random numbers. */
static inline void tiny(ddpm_config *c, const char *name)
{
    static const char *const settings[] = {"data.count=20",
                                           "model.block_out_channels=8,16",
                                           "model.norm_num_groups=4",
                                           "model.dropout=0.1",
                                           "train.batch=6",
                                           "train.steps=9",
                                           NULL};
    small_run(c, root, name, settings);
}

/* Train until `stop_at` (0: to the end). */
static inline ddpm_status train(const ddpm_config *c, uint64_t stop_at, run_record *r)
{
    backend *be;
    run_record unused = {0};
    if (!r) r = &unused;
    r->stop_at = stop_at;
    const run_hooks hooks = run_record_hooks(r);
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 2}, &be, &why));
    why.text[0] = '\0';
    const ddpm_status st = run_train(be, c, &hooks, &why);
    backend_destroy(be);
    return st;
}

static inline void expect_same_file(const char *a_dir, const char *b_dir, const char *name)
{
    cr_expect(same_bytes(in_dir(a_dir, name), in_dir(b_dir, name)), "%s differs between %s and %s", name, a_dir, b_dir);
}

static inline void expect_same_end(const ddpm_config *a, const ddpm_config *b, int64_t last)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors",
                                        "unet/config.json",
                                        "scheduler/scheduler_config.json",
                                        "training/weights.safetensors",
                                        "training/exp_avg.safetensors",
                                        "training/exp_avg_sq.safetensors",
                                        "training/state.json"};
    char dir[2][PATH_CAP], name[CHECKPOINT_NAME_CAP];
    (void)snprintf(dir[0], PATH_CAP, "%.3000s/ckpt/%s", a->out, checkpoint_name(name, last));
    (void)snprintf(dir[1], PATH_CAP, "%.3000s/ckpt/%s", b->out, checkpoint_name(name, last));
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) expect_same_file(dir[0], dir[1], files[i]);
}

__attribute__((unused)) static ddpm_config whole, parts;

/* The losses of metrics.jsonl, a line each. */
static inline int read_losses(const char *run, double *loss, int cap)
{
    int n = 0;
    char *text = get_text(in_dir(run, "metrics.jsonl"));
    for (char *at = text; n < cap && (at = strstr(at, "\"loss\":")); at++) loss[n++] = strtod(at + 7, NULL);
    mem_free(text);
    return n;
}

#endif
