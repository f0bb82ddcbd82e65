/* What is left of a run when `ddpm train` is killed, or a system call of it fails, before, during and after a rollback:
 * the same command continues to the same bits.  The training runs in processes of its own, the parent computes nothing. */
#include "base/mem.h"
#include "fault/failing_calls.h"
#include "io/checkpoint_dir.h"
#include "ir/operands.h"
#include "support/faulty_backend.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 2, BASE = 3, END = 12 };

static char root[PATH_CAP], folder[PATH_CAP];
static err why;

static void settings(ddpm_config *c, const char *out)
{
    static const char *const all[] = {"data.kind=digits",
                                      "data.resolution=8",
                                      "data.channels=1",
                                      "data.count=20",
                                      "model.block_out_channels=4,4",
                                      "model.down_block_types=DownBlock2D,DownBlock2D",
                                      "model.up_block_types=UpBlock2D,UpBlock2D",
                                      "model.layers_per_block=1",
                                      "model.norm_num_groups=2",
                                      "train.batch=2",
                                      "train.lr_warmup_steps=0",
                                      "train.max_skipped=2",
                                      "diffusion.num_train_timesteps=20",
                                      "ckpt.every=3",
                                      "ckpt.keep=2",
                                      "resume=auto",
                                      "log.every=1",
                                      NULL};
    config_defaults(c);
    config_put_all(c, all);
    (void)snprintf(c->out, sizeof c->out, "%s", out);
    c->train.steps = END;
}

/* Steps 7 and 8 are not finite: the checkpoint of step 6 is set aside, and the run returns to step 3.  Its steps 7 and 8
 * have then the samples of what would have been steps 12 and 13. */
static const fault bad[] = {
    {.path = "conv_in", .op = OP_conv2d, .out = CONV_Y, .first = 6 * BATCH, .last = 8 * BATCH - 1}, {.path = NULL}};

static int train(const ddpm_config *c)
{
    static const run_hooks silent;
    backend *be = NULL;
    err e = {0};
    if (backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &e) != DDPM_OK) return 1;
    const backend_table *fn = be->fn;
    faulty_wrap(be, bad);
    const ddpm_status st = run_train(be, c, &silent, &e);
    be->fn = fn;
    backend_destroy(be);
    return st != DDPM_OK && !e.text[0] ? 1 : (int)st;
}

static pid_t begin(const ddpm_config *c, long n, int error)
{
    failing_error = error;
    atomic_store(countdown, n);
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child > 0) return child;
    _exit(train(c));
}

static const char *in_root(const char *name) { return in_dir(root, name); }

/* `base` holds a run up to BASE, `whole` that run to the end, with its rollback. */
static void make_root(void)
{
    static ddpm_config c;
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 1); /* where fsync is free */
    failing_prepare();
    scratch_make(root);
    (void)snprintf(folder, sizeof folder, "%s", in_root("run"));
    settings(&c, in_root("base"));
    c.train.steps = BASE;
    cr_assert_eq(failing_end(begin(&c, -1, 0)), 0);
    settings(&c, in_root("whole"));
    cr_assert_eq(failing_end(begin(&c, -1, 0)), 0);
    char *log = get_text(in_dir(in_root("whole"), "log.txt"));
    cr_assert_not_null(strstr(log, "rollback 1 of 3: from step 8 to "), "%s", log);
    cr_assert(path_exists(in_dir(in_root("whole"), "ckpt/superseded_001/step_00000006")), "%s", log);
    mem_free(log);
}
static void remove_root(void) { scratch_remove(root); }

TestSuite(rollback_faults, .init = make_root, .fini = remove_root, .timeout = 3600);

static void take_base(void)
{
    char command[4 * PATH_CAP];
    (void)snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", folder, in_root("base"), folder);
    cr_assert_eq(system(command), 0);
}

/* Everything that looks like a checkpoint is whole. */
static void expect_whole(long n)
{
    char name[CHECKPOINT_NAME_CAP], path[PATH_CAP];
    int64_t *steps;
    int count;
    OK(checkpoint_list(in_dir(folder, "ckpt"), &steps, &count, &why));
    cr_assert(count > 0 && steps[count - 1] >= BASE, "call %ld", n);
    for (int i = 0; i < count; i++) {
        OK(path_join(path, in_dir(folder, "ckpt"), checkpoint_name(name, steps[i]), &why));
        cr_assert_eq(checkpoint_verify(path, &why), DDPM_OK, "call %ld: %s", n, why.text);
    }
    mem_free(steps);
}

static void expect_same_file(const char *name, long n)
{
    char a[PATH_CAP], b[PATH_CAP];
    (void)snprintf(a, sizeof a, "%.3000s/%s", folder, name);
    (void)snprintf(b, sizeof b, "%.3000s/whole/%s", root, name);
    cr_assert(same_bytes(a, b), "call %ld: %s", n, name);
}

/* Weights, moments, counters and the images of skipped steps are those of the run that nothing disturbed, and each step
 * is in the metrics once, but for `lost` lines. */
static void expect_same_end(long n, int lost)
{
    static const char *const files[] = {
        "ckpt/step_00000012/unet/diffusion_pytorch_model.safetensors",
        "ckpt/step_00000012/training/weights.safetensors", "ckpt/step_00000012/training/exp_avg.safetensors",
        "ckpt/step_00000012/training/exp_avg_sq.safetensors", "ckpt/step_00000012/training/state.json"};
    int lines = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) expect_same_file(files[i], n);
    if (lost == 0) expect_same_file("skipped.jsonl", n);
    char *text = get_text(in_dir(folder, "metrics.jsonl"));
    for (int k = 1; k <= END; k++) {
        char word[32];
        (void)snprintf(word, sizeof word, "\"step\":%d,", k);
        const char *at = strstr(text, word);
        lines += at != NULL;
        cr_assert(!at || !strstr(at + 1, word), "call %ld: step %d stands twice", n, k);
    }
    cr_assert_geq(lines, END - lost, "call %ld: %d of %d lines", n, lines, END);
    mem_free(text);
}

/* Continue from `base` while the n-th call goes wrong, and then without; true once there are not so many. */
static bool survives(const ddpm_config *c, long n, int error)
{
    take_base();
    const int code = failing_end(begin(c, n, error));
    const bool all = atomic_load(countdown) > 0;
    cr_assert(code == 0 || (!all && (error ? code == DDPM_EIO : code == -1)), "call %ld: exit %d", n, code);
    expect_whole(n);
    cr_assert_eq(failing_end(begin(c, -1, 0)), 0, "call %ld: the same command does not go on", n);
    expect_whole(n);
    expect_same_end(n, error ? 1 : 0);
    return all;
}

/* Every 41st call; all of them with DDPM_TEST_LONG. */
static void sweep(int error)
{
    static ddpm_config c;
    const long stride = getenv("DDPM_TEST_LONG") ? 1 : 41;
    long n = 1;
    settings(&c, folder);
    while (!survives(&c, n, error)) n += stride;
    cr_assert_gt(n, 150, "the calls of a run were not seen");
}

Test(rollback_faults, killed_at_any_call_ends_the_same) { sweep(0); }
Test(rollback_faults, any_call_may_fail) { sweep(ENOSPC); }

/* Files that cannot be opened: the run ends, and returns to no older checkpoint because of it. */
Test(rollback_faults, any_open_may_fail)
{
    static ddpm_config c;
    bool all = false;
    long n = 1;
    settings(&c, folder);
    for (; !all; n += getenv("DDPM_TEST_LONG") ? 1 : 9) {
        take_base();
        failing_reads = true;
        const int code = failing_end(begin(&c, n, EMFILE));
        all = atomic_load(countdown) > 0;
        failing_reads = false;
        cr_assert(code == 0 || (!all && (code == DDPM_EIO || code == DDPM_ENOINPUT)), "open %ld: exit %d", n, code);
        expect_whole(n);
        cr_assert_eq(failing_end(begin(&c, -1, 0)), 0, "open %ld: the same command does not go on", n);
        expect_same_end(n, 1);
    }
    cr_assert_gt(n, 20, "the files of a run were not seen");
}
