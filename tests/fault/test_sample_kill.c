/* What is left of a folder of pictures when `ddpm sample` is killed, or a system call of it fails, while it replaces the
 * pictures of another description (faults B1, F1), or draws a set in any format.  The command runs in processes of its own, the parent computes
 * nothing. */
#include "fault/failing_calls.h"

#include "cli/interrupt.c"
#include "cli/progress.c"
#include "cli/sample_description.c"
#include "cli/sample_folder.c"
#include "cli/sample_set.c"
#include "cli/tuning_lock.c"

#include "cli/cmd_sample.c"
#include "data/image.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <sys/wait.h>
#include <time.h>

/* As a training that saves: the checkpoint is there when it is looked for, and gone when this file of it is opened. */
static struct {
    const char *file, *checkpoint, *away, *newer, *name; /* NULL: nothing vanishes */
} vanishing;

static void vanish(const char *path)
{
    if (!vanishing.file || strcmp(path, vanishing.file) != 0) return;
    vanishing.file = NULL;
    (void)syscall(SYS_rename, vanishing.newer, vanishing.name);
    (void)syscall(SYS_rename, vanishing.checkpoint, vanishing.away);
}

/* ---- the command ---- */

enum { SEEDS = 2, PICTURES = 5, MORE = 8 }; /* the folder that is replaced has MORE */

static char root[PATH_CAP];
static err why;

static const char *more = ""; /* options */

/* `ddpm sample run out=FOLDER seed=... count=... overwrite=true`: its exit code. */
static int sample_as(const char *out, int seed, int count)
{
    cli_args args = {.count = 1};
    const config_scope scope = {.command = "sample", .options = "sample overwrite threads cpu"};
    char words[200 + PATH_CAP], *rest = words;
    err e = {0};
    args.argument[0] = in_dir(root, "run");
    config_defaults(&args.config);
    (void)snprintf(words, sizeof words,
                   "seed=%d count=%d batch=2 threads=1 cpu.conv=direct overwrite=true num_inference_steps=1 out=%s %s",
                   seed, count, out, more);
    for (const char *word; (word = strtok_r(rest, " ", &rest)) != NULL;)
        if (config_assign(&args.config, &scope, word, &e) != DDPM_OK) return DDPM_EINVAL;
    const ddpm_status st = cmd_sample(&args, &e);
    if (st != DDPM_OK && !e.text[0]) return 1; /* nobody would know why */
    return (int)st;
}

static pid_t begin(const char *out, int seed, int count, long n, int error)
{
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child > 0) return child;
    if (!freopen("/dev/null", "w", stdout)) _exit(1);
    failing_error = error;
    atomic_store(countdown, n);
    _exit(sample_as(out, seed, count));
}

static char folder[PATH_CAP];       /* where it all happens */
static char fresh[SEEDS][PATH_CAP]; /* the pictures as they should be, of each seed */

static void make_root(void)
{
    char command[4 * PATH_CAP];
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 1); /* where fsync is free */
    failing_prepare();
    before_open = vanish;
    scratch_make(root);
    (void)snprintf(command, sizeof command,
                   "'%s' train out=%s/run train.steps=1 train.batch=1 data.kind=digits data.resolution=8 data.count=4"
                   " data.channels=1 model.block_out_channels=4,4 model.down_block_types=DownBlock2D,DownBlock2D"
                   " model.up_block_types=UpBlock2D,UpBlock2D model.layers_per_block=1 model.norm_num_groups=2"
                   " threads=1 > /dev/null",
                   DDPM_PROGRAM, root);
    cr_assert_eq(system(command), 0);
    (void)snprintf(folder, sizeof folder, "%.4000s/s", root);
    for (int seed = 0; seed < SEEDS; seed++) {
        (void)snprintf(fresh[seed], PATH_CAP, "%.4000s/fresh%d", root, seed);
        cr_assert_eq(failing_end(begin(fresh[seed], seed, MORE, -1, 0)), 0);
    }
}
static void remove_root(void) { scratch_remove(root); }

TestSuite(sample_kill, .init = make_root, .fini = remove_root, .timeout = 1800);

/* The seed that sampling.json names; -1: there is none. */
static int described(void)
{
    int seed = -1;
    if (!path_exists(in_dir(folder, "sampling.json"))) return -1;
    char *text = get_text(in_dir(folder, "sampling.json"));
    const char *at = strstr(text, "\"seed\": ");
    cr_assert(at && sscanf(at, "\"seed\": %d", &seed) == 1, "half a description");
    mem_free(text);
    return seed;
}

/* No picture lies beside a description that it is not of: of those that would count as done, each is as it should be. */
static void expect_no_mixture(const char *when, long n)
{
    const int seed = described();
    char name[PICTURE_NAME];
    if (seed < 0) return;
    for (int i = 0; i < MORE; i++) {
        picture_name(i, name);
        char *bytes;
        size_t size;
        if (file_read(in_dir(folder, name), IMAGE_MAX_BYTES, &bytes, &size, NULL) != DDPM_OK) continue;
        const bool whole = image_png_bytes_are_whole(bytes, size, 8, 8, 1);
        mem_free(bytes);
        if (!whole) continue;
        cr_assert(same_bytes(in_dir(folder, name), in_dir(fresh[seed], name)), "%s at call %ld: %s is not of seed %d",
                  when, n, name, seed);
    }
}

static void expect_all(int seed, long n)
{
    char name[PICTURE_NAME];
    cr_assert_eq(described(), seed);
    for (int i = 0; i < PICTURES; i++) {
        picture_name(i, name);
        cr_assert(same_bytes(in_dir(folder, name), in_dir(fresh[seed], name)), "call %ld: %s", n, name);
    }
}

static void copy_folder(const char *from, const char *to)
{
    char command[4 * PATH_CAP];
    (void)snprintf(command, sizeof command, "rm -rf %s && cp -r %s %s", to, from, to);
    cr_assert_eq(system(command), 0);
}

/* Replace seed 0's pictures by seed 1's while the n-th call goes wrong; true once there are fewer. */
static bool survives(long n, int error)
{
    copy_folder(fresh[0], folder);
    const int code = failing_end(begin(folder, 1, PICTURES, n, error));
    const bool fewer = atomic_exchange(countdown, -1) > 0;
    cr_assert(code == -1 || code == 0 || code == DDPM_EIO, "call %ld: exit %d", n, code);
    expect_no_mixture("ended", n);
    cr_assert_eq(failing_end(begin(folder, 1, PICTURES, -1, 0)), 0, "call %ld: the same command does not go on", n);
    expect_all(1, n);
    for (int i = PICTURES; i < MORE; i++) {
        char name[PICTURE_NAME];
        picture_name(i, name);
        cr_assert_not(path_exists(in_dir(folder, name)), "call %ld: %s is left of seed 0", n, name);
    }
    return fewer;
}

static void sweep(int error)
{
    long n = 1;
    while (!survives(n, error)) n++;
    cr_assert_gt(n, 30, "the calls of the command were not seen");
}

Test(sample_kill, killed_at_any_call_leaves_no_mixture) { sweep(0); }
Test(sample_kill, any_call_may_fail) { sweep(ENOSPC); }

/* faults C7: sampling from a run that keeps one checkpoint failed where it was removed between two files of it. */
Test(sample_kill, a_checkpoint_that_vanishes_is_looked_for_again)
{
    static const char *const files[] = {"unet/config.json", "scheduler/scheduler_config.json",
                                        "unet/diffusion_pytorch_model.safetensors"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char old[PATH_CAP], new[PATH_CAP], file[PATH_CAP], aside[PATH_CAP], next[PATH_CAP];
        (void)snprintf(old, sizeof old, "%.4000s/run/ckpt/step_%08zu", root, i + 1);
        (void)snprintf(new, sizeof new, "%.4000s/run/ckpt/step_%08zu", root, i + 2);
        (void)snprintf(aside, sizeof aside, "%.4000s/aside%zu", root, i);
        (void)snprintf(next, sizeof next, "%.4000s/next", root);
        OK(path_join(file, old, files[i], &why));
        copy_folder(old, next);
        vanishing.file = file, vanishing.checkpoint = old, vanishing.away = aside;
        vanishing.newer = next, vanishing.name = new;
        cr_expect_eq(failing_end(begin(folder, 0, PICTURES, -1, 0)), 0, "%s vanished", files[i]);
        vanishing.file = NULL;
        cr_assert(path_exists(new) && !path_exists(old), "%s was not opened", files[i]);
    }
    expect_all(0, 0);
}

/* 8 random moments, or 500 with DDPM_TEST_LONG, each with another seed than the one before. */
Test(sample_kill, killed_at_random_moments_leaves_no_mixture)
{
    const int kills = getenv("DDPM_TEST_LONG") ? 500 : 8;
    unsigned random = 1;
    int hit = 0;
    for (int i = 0; i < kills; i++) {
        const pid_t child = begin(folder, i % SEEDS, MORE, -1, 0);
        random = random * 1664525u + 1013904223u;
        const struct timespec delay = {0, (long)(random >> 8) % 60000 * 1000};
        (void)nanosleep(&delay, NULL); /* the moment itself; nothing is waited for */
        (void)kill(child, SIGKILL);
        hit += failing_end(child) == -1;
        if (path_is_dir(folder)) expect_no_mixture("killed", i);
    }
    cr_assert_gt(hit, 0, "no kill ever met the command");
    cr_assert_eq(failing_end(begin(folder, 0, MORE, -1, 0)), 0);
    expect_all(0, kills);
}

/* faults C5: a signal waited until a list of all pictures had been made. */
Test(sample_kill, a_signal_is_answered_while_the_folder_is_looked_through)
{
    sample_folder f;
    const sample_folder_spec other = {.path = fresh[0],
                                      .description = strdup("{}"),
                                      .description_size = 2,
                                      .set = strdup("{}"),
                                      .set_size = 2,
                                      .ranks = 1,
                                      .overwrite = true};
    OK(interrupt_install(&why));
    cr_assert_eq(raise(SIGTERM), 0);
    cr_expect_eq(sample_folder_open(&f, &other, &why), DDPM_ESAVED);
    cr_expect_not_null(strstr(why.text, "the same command continues"), "%s", why.text);
    sample_folder_close(&f);
}

/* ---- a set in each format ---- */

static bool same_sets(const char *a, const char *b)
{
    char command[4 * PATH_CAP];
    (void)snprintf(command, sizeof command, "diff -r -x LOCK %s %s > %s/difference", a, b, root);
    return system(command) == 0;
}

/* Begin a set anew while the n-th call goes wrong; the same command then makes it what it should be.  True once there are
 * fewer calls. */
static bool continues(const char *whole, long n, int error)
{
    cr_assert_eq(dir_remove(folder, &why), DDPM_OK, "%s", why.text);
    const int code = failing_end(begin(folder, 0, PICTURES, n, error));
    const bool fewer = atomic_exchange(countdown, -1) > 0;
    cr_assert(code == -1 || code == 0 || code == DDPM_EIO, "%s, call %ld: exit %d", more, n, code);
    cr_assert_eq(failing_end(begin(folder, 0, PICTURES, -1, 0)), 0, "%s, call %ld: it does not go on", more, n);
    cr_assert(same_sets(whole, folder), "%s, call %ld: another set: %s", more, n, get_text(in_dir(root, "difference")));
    return fewer;
}

static void every_call(const char *options, int error)
{
    char whole[PATH_CAP];
    long n = 1;
    more = options;
    (void)snprintf(whole, sizeof whole, "%.4000s/whole", root);
    cr_assert_eq(failing_end(begin(whole, 0, PICTURES, -1, 0)), 0);
    while (!continues(whole, n, error)) n++;
    cr_assert_gt(n, 30, "the calls of the command were not seen");
}

Test(sample_kill, a_set_of_files_is_the_same_wherever_it_was_killed) { every_call("format=png", 0); }
Test(sample_kill, shards_are_the_same_wherever_they_were_killed) { every_call("format=tar shard=2", 0); }
Test(sample_kill, one_file_is_the_same_wherever_it_was_killed) { every_call("format=npz", 0); }
Test(sample_kill, shards_survive_any_failing_call) { every_call("format=tar shard=2", ENOSPC); }
Test(sample_kill, one_file_survives_any_failing_call) { every_call("format=npz", EIO); }
