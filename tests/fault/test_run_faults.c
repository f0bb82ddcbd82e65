/* What is left of a run when `ddpm train` is killed, or a system call of it fails, while it resumes, saves, prunes and
 * goes back: nothing is lost that was saved, and the same command goes on to the same bits.  The training runs in
 * processes of its own, the parent computes nothing. */
#include "base/mem.h"
#include "fault/failing_calls.h"
#include "io/checkpoint_dir.h"
#include "support/io_support.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>

enum { SAVED = 6, END = 10 }; /* steps of the run that is gone on with */

static char root[PATH_CAP], folder[PATH_CAP];
static err why;

static void settings(ddpm_config *c, const char *out, int64_t steps)
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
                                      "diffusion.num_train_timesteps=20",
                                      "ckpt.every=2",
                                      "ckpt.keep=2",
                                      "sample.every=4",
                                      "sample.count=1",
                                      "sample.num_inference_steps=1",
                                      "resume=auto",
                                      "log.every=1",
                                      NULL};
    config_defaults(c);
    config_put_all(c, all);
    (void)snprintf(c->out, sizeof c->out, "%s", out);
    c->train.steps = steps;
}

static int train(const ddpm_config *c)
{
    static const run_hooks silent;
    backend *be = NULL;
    err e = {0};
    if (backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &e) != DDPM_OK) return 1;
    const ddpm_status st = run_train(be, c, &silent, &e);
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

/* `base` holds a run up to SAVED, `whole` one up to END. */
static void make_root(void)
{
    static ddpm_config c;
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 1); /* where fsync is free */
    failing_prepare();
    scratch_make(root);
    (void)snprintf(folder, sizeof folder, "%s", in_root("run"));
    settings(&c, in_root("base"), SAVED);
    cr_assert_eq(failing_end(begin(&c, -1, 0)), 0);
    settings(&c, in_root("whole"), END);
    cr_assert_eq(failing_end(begin(&c, -1, 0)), 0);
}
static void remove_root(void) { scratch_remove(root); }

TestSuite(run_faults, .init = make_root, .fini = remove_root, .timeout = 3600);

static void take_base(void)
{
    char command[4 * PATH_CAP];
    (void)snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", folder, in_root("base"), folder);
    cr_assert_eq(system(command), 0);
}

/* All that looks like a checkpoint is whole, and the newest is of step `least` or later. */
static void expect_whole(int64_t least, long n)
{
    char name[CHECKPOINT_NAME_CAP], path[PATH_CAP];
    int64_t *steps;
    int count;
    OK(checkpoint_list(in_dir(folder, "ckpt"), &steps, &count, &why));
    cr_assert(count > 0 && steps[0] >= least, "call %ld: the newest of %d is %lld", n, count,
              count ? (long long)steps[0] : -1LL);
    for (int i = 0; i < count; i++) {
        OK(path_join(path, in_dir(folder, "ckpt"), checkpoint_name(name, steps[i]), &why));
        cr_assert_eq(checkpoint_verify(path, &why), DDPM_OK, "call %ld: %s", n, why.text);
    }
    mem_free(steps);
}

/* The run is what it would have been: weights, moments, and each step once in the metrics, but `lost` lines. */
static void expect_same_end(long n, int lost)
{
    static const char *const files[] = {"unet/diffusion_pytorch_model.safetensors", "training/weights.safetensors",
                                        "training/exp_avg.safetensors", "training/exp_avg_sq.safetensors",
                                        "training/state.json"};
    char a[PATH_CAP], b[PATH_CAP];
    int lines = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        (void)snprintf(a, sizeof a, "%.3000s/ckpt/step_%08d/%s", folder, END, files[i]);
        (void)snprintf(b, sizeof b, "%.3000s/whole/ckpt/step_%08d/%s", root, END, files[i]);
        cr_assert(same_bytes(a, b), "call %ld: %s", n, files[i]);
    }
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

/* Go on from `base` while the n-th call goes wrong, and then without; true once there are not so many. */
static bool survives(const ddpm_config *c, long n, int error)
{
    take_base();
    const int code = failing_end(begin(c, n, error));
    const bool all = atomic_load(countdown) > 0;
    cr_assert(code == 0 || (!all && (error ? code == DDPM_EIO : code == -1)), "call %ld: exit %d", n, code);
    expect_whole(code == 0 ? END : SAVED, n);
    cr_assert_eq(failing_end(begin(c, -1, 0)), 0, "call %ld: the same command does not go on", n);
    expect_whole(END, n);
    expect_same_end(n, error ? 1 : 0);
    return all;
}

/* Every 31st call; all of them with DDPM_TEST_LONG. */
static void sweep(int error)
{
    static ddpm_config c;
    const long stride = getenv("DDPM_TEST_LONG") ? 1 : 31;
    long n = 1;
    settings(&c, folder, END);
    while (!survives(&c, n, error)) n += stride;
    cr_assert_gt(n, 150, "the calls of a run were not seen");
}

Test(run_faults, killed_at_any_call_loses_nothing) { sweep(0); }
Test(run_faults, any_call_may_fail) { sweep(ENOSPC); }

/* Is the step's line in the file? */
static bool has_step(const char *path, int k)
{
    char *text, word[32];
    size_t size;
    if (!path_exists(path)) return false;
    OK(file_read(path, 1 << 20, &text, &size, &why));
    (void)snprintf(word, sizeof word, "\"step\":%d,", k);
    const bool there = strstr(text, word) != NULL;
    mem_free(text);
    return there;
}

/* Somewhere below the folder there is still every line of the past, and its last checkpoint. */
static void expect_past(long n)
{
    static const char *const places[] = {"", "ckpt/superseded_001", "ckpt/superseded_002"};
    bool saved = false;
    for (int k = 1; k <= SAVED; k++) {
        bool there = false;
        for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
            char file[PATH_CAP];
            (void)snprintf(file, sizeof file, "%.3000s/%s/metrics.jsonl", folder, places[i]);
            there |= has_step(file, k);
            (void)snprintf(file, sizeof file, "%.3000s/%s/step_%08d", folder, i ? places[i] : "ckpt", SAVED);
            saved |= checkpoint_verify(file, NULL) == DDPM_OK;
        }
        cr_assert(there, "call %ld: the line of step %d is gone", n, k);
    }
    cr_assert(saved, "call %ld: the checkpoint of step %d is gone", n, SAVED);
}

Test(run_faults, killed_while_it_goes_back_loses_nothing_of_the_past)
{
    static ddpm_config c, on;
    bool all = false;
    long n = 1;
    settings(&c, folder, SAVED - 1);
    settings(&on, folder, SAVED - 1);
    (void)snprintf(c.resume, sizeof c.resume, "%s/ckpt/step_%08d", in_root("run"), SAVED - 2);
    c.rewind = true;
    for (; !all; n += getenv("DDPM_TEST_LONG") ? 1 : n < 60 ? 4 : 23) { /* it goes back at first */
        take_base();
        const int code = failing_end(begin(&c, n, 0));
        all = atomic_load(countdown) > 0;
        cr_assert(code == 0 || (!all && code == -1), "call %ld: exit %d", n, code);
        expect_past(n);
        cr_assert_eq(failing_end(begin(&on, -1, 0)), 0, "call %ld: resume=auto does not go on", n);
        expect_past(n);
    }
    cr_assert_gt(n, 40, "the calls of a run were not seen");
}

/* A file that cannot be opened is not a damaged one: the run does not go on from an older checkpoint. */
Test(run_faults, any_open_may_fail)
{
    static ddpm_config c;
    bool all = false;
    long n = 1;
    settings(&c, folder, END);
    for (; !all; n++) {
        take_base();
        failing_reads = true;
        const int code = failing_end(begin(&c, n, EMFILE));
        all = atomic_load(countdown) > 0;
        failing_reads = false;
        cr_assert(code == 0 || (!all && (code == DDPM_EIO || code == DDPM_ENOINPUT)), "open %ld: exit %d", n, code);
        expect_whole(code == 0 ? END : SAVED, n);
        cr_assert_eq(failing_end(begin(&c, -1, 0)), 0, "open %ld: the same command does not go on", n);
        cr_assert_not(path_exists(in_dir(folder, "ckpt/superseded_001")),
                      "open %ld: a whole checkpoint was passed over", n);
        expect_same_end(n, 0);
    }
    cr_assert_gt(n, 20, "the files of a run were not seen");
}

/* A disk that is full at another moment each time. */
Test(run_faults, a_full_disk_loses_nothing)
{
    static ddpm_config c;
    char disk[PATH_CAP], size[32], *out = folder;
    int full = 0;
    OK(dir_make(in_root("disk"), &why));
    (void)snprintf(disk, sizeof disk, "%s", in_root("disk"));
    (void)snprintf(out, sizeof folder, "%.4000s/run", disk);
    settings(&c, folder, END);
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
        cr_skip_test("a small disk cannot be mounted here (not root?)");
    for (int kib = 100; kib < 700; kib += getenv("DDPM_TEST_LONG") ? 4 : 40) {
        (void)snprintf(size, sizeof size, "size=%dk", kib);
        cr_assert_eq(mount("none", disk, "tmpfs", 0, size), 0);
        const int code = failing_end(begin(&c, -1, 0));
        cr_assert(code == 0 || code == DDPM_EIO, "%d KiB: exit %d", kib, code);
        full += code != 0;
        cr_assert_eq(mount("none", disk, "tmpfs", MS_REMOUNT, "size=10m"), 0);
        cr_assert_eq(failing_end(begin(&c, -1, 0)), 0, "%d KiB: the same command does not go on", kib);
        expect_whole(END, kib);
        expect_same_end(kib, END);
        cr_assert_eq(umount(disk), 0);
    }
    cr_assert_gt(full, 0, "the disk was never full");
}

/* 8 random moments, or 500 with DDPM_TEST_LONG, of runs that keep one checkpoint and save at every step. */
Test(run_faults, killed_at_random_moments_loses_nothing)
{
    static ddpm_config c;
    const int kills = getenv("DDPM_TEST_LONG") ? 500 : 8;
    unsigned random = 1;
    int hit = 0;
    for (int i = 0; i < kills; i++) {
        if (i % 4 == 0) take_base();
        settings(&c, folder, END);
        c.ckpt.every = 1, c.ckpt.keep = 1;
        const pid_t child = begin(&c, -1, 0);
        random = random * 1664525u + 1013904223u;
        const struct timespec delay = {0, (long)(random >> 8) % 150000 * 1000};
        (void)nanosleep(&delay, NULL); /* the moment itself; nothing is waited for */
        (void)kill(child, SIGKILL);
        hit += failing_end(child) == -1;
        expect_whole(SAVED, i);
        if (i % 4 != 3) continue;
        cr_assert_eq(failing_end(begin(&c, -1, 0)), 0);
        expect_same_end(i, 0);
    }
    cr_assert_gt(hit, 0, "no kill ever met a run");
}
