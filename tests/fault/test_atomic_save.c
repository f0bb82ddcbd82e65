/* What is left of a checkpoint when the machine, the disk or the process fails while it is saved.
 *
 * The system calls of a save are defined here, in front of the C library's, so that the n-th of them can
 * fail or kill the process; a sweep over n is every moment at which a save can end. */
#include "base/mem.h"
#include "io/atomic_dir.h"
#include "io/checkpoint_dir.h"
#include "io/safetensors.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the system calls ---- */

enum { MAX_DIRTY = 256 };
static struct {
    long countdown;         /* the call that brings it to 0 fails; 0: none does */
    int error;              /* its errno, or 0 for SIGKILL */
    bool no_exchange;       /* a file system without RENAME_EXCHANGE */
    bool watch;             /* keep the books below */
    ino_t dirty[MAX_DIRTY]; /* written, and not fsynced since */
    int n_dirty;
    ino_t last_sync;
    char renamed_to[PATH_CAP];         /* by the last rename */
    ino_t before_rename, after_rename; /* the fsync just before it and just after it */
    int dirty_at_rename;
} fault;

static bool fails(void)
{
    if (fault.countdown == 0 || --fault.countdown > 0) return false;
    if (fault.error == 0) (void)kill(getpid(), SIGKILL);
    errno = fault.error;
    return true;
}

static ino_t inode(int fd)
{
    struct stat info;
    return fstat(fd, &info) ? 0 : info.st_ino;
}

static void clean(ino_t file)
{
    for (int i = 0; i < fault.n_dirty; i++)
        if (fault.dirty[i] == file) fault.dirty[i--] = fault.dirty[--fault.n_dirty];
}

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    const unsigned mode = flags & O_CREAT ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    return fails() ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t write(int fd, const void *from, size_t n)
{
    if (fails()) return -1;
    if (fault.watch && fault.n_dirty < MAX_DIRTY) {
        clean(inode(fd));
        fault.dirty[fault.n_dirty++] = inode(fd);
    }
    return syscall(SYS_write, fd, from, n);
}

int fsync(int fd)
{
    if (fails()) return -1;
    if (fault.watch) {
        clean(inode(fd));
        fault.last_sync = inode(fd);
        if (fault.renamed_to[0] && !fault.after_rename) fault.after_rename = inode(fd);
    }
    return (int)syscall(SYS_fsync, fd);
}

int close(int fd)
{
    const bool failed = fails();
    const int why = errno, r = (int)syscall(SYS_close, fd);
    if (failed) errno = why;
    return failed ? -1 : r;
}

static void note_rename(const char *to)
{
    if (!fault.watch) return;
    (void)snprintf(fault.renamed_to, sizeof fault.renamed_to, "%s", to);
    fault.dirty_at_rename = fault.n_dirty;
    fault.before_rename = fault.last_sync;
    fault.after_rename = 0;
}

int rename(const char *from, const char *to)
{
    if (fails()) return -1;
    note_rename(to);
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    if (fails()) return -1;
    if (fault.no_exchange) return errno = EINVAL, -1;
    note_rename(to);
    return (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}

int mkdir(const char *path, mode_t mode) { return fails() ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode); }

int unlink(const char *path) { return fails() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0); }
int rmdir(const char *path) { return fails() ? -1 : (int)syscall(SYS_unlinkat, AT_FDCWD, path, AT_REMOVEDIR); }

/* ---- a save ---- */

enum { VALUES = 30000 };

/* A checkpoint whose weights all are `value`. */
static ddpm_status save(const char *ckpt, int64_t step, float value, err *e)
{
    static float v[VALUES];
    char name[CHECKPOINT_NAME_CAP];
    atomic_dir t = {.path = ""};
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < VALUES; i++) v[i] = value;
    const safetensors_item item = {.name = "v", .dtype = SAFETENSORS_F32, .rank = 1, .shape = {VALUES}, .data = v};
    TRY_GOTO(atomic_dir_begin(&t, ckpt, checkpoint_name(name, step), e));
    TRY_GOTO(dir_make(in_dir(t.path, "unet"), e));
    TRY_GOTO(file_write(in_dir(t.path, "unet/config.json"), name, strlen(name), false, e));
    TRY_GOTO(safetensors_write(in_dir(t.path, "unet/w.safetensors"), &item, 1, false, e));
    TRY_GOTO(checkpoint_seal(t.path, e));
    TRY_GOTO(atomic_dir_commit(&t, e));
done:
    atomic_dir_abort(&t);
    return st;
}

static float value_in(const char *checkpoint)
{
    safetensors *st;
    float v;
    err e = {0};
    cr_assert_eq(safetensors_open(in_dir(checkpoint, "unet/w.safetensors"), &st, &e), DDPM_OK, "%s", e.text);
    memcpy(&v, safetensors_find(st, "v")->data, sizeof v);
    safetensors_close(st);
    return v;
}

static int entries(const char *dir, const char *prefix)
{
    int n = 0;
    DIR *d = opendir(dir);
    cr_assert_not_null(d, "%s", dir);
    for (const struct dirent *entry = readdir(d); entry; entry = readdir(d))
        n += !strncmp(entry->d_name, prefix, strlen(prefix)) && strcmp(entry->d_name, ".") &&
             strcmp(entry->d_name, "..");
    closedir(d);
    return n;
}

/* Everything that looks like a checkpoint is one; the newest into path; how many there are. */
static int check_all(const char *ckpt, char *path)
{
    char name[CHECKPOINT_NAME_CAP];
    int64_t *steps;
    int n;
    err e = {0};
    cr_assert_eq(checkpoint_list(ckpt, &steps, &n, &e), DDPM_OK, "%s", e.text);
    for (int i = 0; i < n; i++)
        cr_assert_eq(checkpoint_verify(in_dir(ckpt, checkpoint_name(name, steps[i])), &e), DDPM_OK, "%s", e.text);
    mem_free(steps);
    cr_assert_eq(checkpoint_newest_good(ckpt, path, NULL, &e), DDPM_OK, "%s", e.text);
    return n;
}

/* Checkpoints 1 and 2, whose values are their steps, in a new folder. */
static void make_store(char *ckpt)
{
    err e = {0};
    scratch_make(ckpt);
    for (int step = 1; step <= 2; step++) cr_assert_eq(save(ckpt, step, (float)step, &e), DDPM_OK, "%s", e.text);
}

static ddpm_status prune(const char *ckpt, int64_t newest, int keep)
{
    checkpoint_known known = {.n = 0};
    const ddpm_status st = checkpoint_prune(ckpt, newest, keep, &known, NULL, NULL);
    checkpoint_known_free(&known);
    return st;
}

static void sweep(const char *ckpt)
{
    notes left = {.text = ""};
    atomic_dir_sweep(ckpt, &left);
    cr_assert_str_empty(left.text);
    cr_assert_eq(entries(ckpt, ".tmp-") + entries(ckpt, ".old-"), 0);
}

/* The sweeps save some thousand times: in memory, where fsync is free. */
static void use_memory(void)
{
    if (access("/dev/shm", W_OK) == 0) (void)setenv("TMPDIR", "/dev/shm", 1);
}

/* ---- the n-th call fails ---- */

/* Save `step` over checkpoints 1 and 2 while the n-th call fails; true once no call failed any more. */
static bool survives_error(int64_t step, long n, int error, bool no_exchange)
{
    char ckpt[PATH_CAP], newest[PATH_CAP];
    err e = {0};
    make_store(ckpt);
    fault.countdown = n;
    fault.error = error;
    fault.no_exchange = no_exchange;
    const ddpm_status st = save(ckpt, step, 9.0f, &e);
    const bool fired = fault.countdown == 0;
    fault.countdown = 0;
    if (st == DDPM_OK)
        sweep(ckpt); /* a remainder of the old one may be left, nothing else */
    else
        cr_assert_not_null(strstr(e.text, strerror(error)), "call %ld: %s", n, e.text);
    const int n_good = check_all(ckpt, newest);
    cr_assert_eq(value_in(newest), st == DDPM_OK ? 9.0f : 2.0f, "call %ld", n);
    cr_assert_eq(n_good, st == DDPM_OK && step == 3 ? 3 : 2, "call %ld", n);
    cr_assert_eq(entries(ckpt, ""), n_good, "call %ld left something behind", n);
    scratch_remove(ckpt);
    return !fired;
}

static void sweep_errors(int64_t step, bool no_exchange)
{
    long n = 1;
    use_memory();
    while (!survives_error(step, n, n % 2 ? ENOSPC : EIO, no_exchange)) n++;
    cr_assert_gt(n, 30, "the calls of a save were not seen");
}

Test(atomic_save, any_call_may_fail_for_a_new_checkpoint) { sweep_errors(3, false); }
Test(atomic_save, any_call_may_fail_while_one_is_replaced) { sweep_errors(2, false); }
Test(atomic_save, any_call_may_fail_while_one_is_replaced_in_steps) { sweep_errors(2, true); }

/* ---- killed at the n-th call ---- */

/* Run a child that saves `step` and prunes, killed at its n-th call; true once it came through. */
static bool killed(const char *ckpt, int64_t step, long n)
{
    const pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        fault.countdown = n;
        fault.error = 0;
        const bool good = save(ckpt, step, 9.0f, NULL) == DDPM_OK && prune(ckpt, step, 2) == DDPM_OK;
        fault.countdown = 0;
        _exit(good ? 0 : 1);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return !WIFSIGNALED(status);
}

static void sweep_kills(int64_t step, bool no_exchange)
{
    bool done = false;
    long n = 1;
    use_memory();
    for (; !done; n++) {
        char ckpt[PATH_CAP], newest[PATH_CAP];
        make_store(ckpt);
        fault.no_exchange = no_exchange;
        done = killed(ckpt, step, n);
        if (!no_exchange) (void)check_all(ckpt, newest); /* whole even before the sweep */
        sweep(ckpt);
        const int n_good = check_all(ckpt, newest);
        const float value = value_in(newest);
        cr_assert(value == 9.0f || (value == 2.0f && !done), "killed at call %ld: neither old nor new", n);
        cr_assert(n_good == 2 || (n_good == 3 && step == 3), "killed at call %ld: %d left", n, n_good);
        cr_assert_eq(entries(ckpt, ""), n_good);
        scratch_remove(ckpt);
    }
    cr_assert_gt(n, 30, "the calls of a save were not seen");
}

Test(atomic_save, killed_at_any_call_old_or_new_is_whole) { sweep_kills(3, false); }
Test(atomic_save, killed_at_any_call_of_a_replacement_old_or_new_is_whole) { sweep_kills(2, false); }
Test(atomic_save, killed_at_any_call_of_a_replacement_in_steps_old_or_new_is_whole) { sweep_kills(2, true); }

/* ---- killed at random moments ---- */

static void save_for_ever(const char *ckpt, int64_t step)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;; step++)
        if (save(ckpt, step, (float)step, NULL) != DDPM_OK || prune(ckpt, step, 2) != DDPM_OK) _exit(1);
}

Test(atomic_save, killed_at_200_random_moments_old_or_new_is_whole)
{
    char ckpt[PATH_CAP], newest[PATH_CAP];
    unsigned random = 1;
    int64_t step = 2;
    int torn = 0, advanced = 0;
    make_store(ckpt);
    for (int i = 0; i < 200; i++) {
        const pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) save_for_ever(ckpt, step + 1);
        random = random * 1664525u + 1013904223u;
        const struct timespec delay = {0, (long)(random >> 8) % 30000 * 1000};
        (void)nanosleep(&delay, NULL); /* the moment itself; nothing is waited for */
        int status;
        cr_assert_eq(kill(child, SIGKILL), 0);
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFSIGNALED(status), "the saver failed by itself");
        torn += entries(ckpt, ".tmp-") > 0;
        const int before = check_all(ckpt, newest);
        sweep(ckpt);
        cr_assert_eq(check_all(ckpt, newest), before);
        const int64_t now = strtoll(strrchr(newest, '_') + 1, NULL, 10);
        cr_assert_geq(now, step, "kill %d lost a checkpoint", i);
        cr_assert_eq(value_in(newest), (float)now);
        advanced += now > step;
        step = now;
    }
    cr_assert_gt(torn, 0, "no save was ever interrupted");
    cr_assert_gt(advanced, 0, "no save ever came through");
    scratch_remove(ckpt);
}

/* ---- a full disk ---- */

static void expect_full(const char *ckpt, const char *words)
{
    char newest[PATH_CAP];
    err e = {0};
    cr_assert_eq(save(ckpt, 3, 9.0f, &e), DDPM_EIO);
    cr_assert_not_null(strstr(e.text, words), "%s", e.text);
    cr_assert_not_null(strstr(e.text, "w.safetensors"), "%s", e.text);
    cr_assert_eq(check_all(ckpt, newest), 2);
    cr_assert_eq(value_in(newest), 2.0f);
    cr_assert_eq(entries(ckpt, ""), 2, "the temporary folder is still there");
}

Test(atomic_save, a_file_size_limit_keeps_the_old)
{
    char ckpt[PATH_CAP];
    struct rlimit limit;
    err e = {0};
    make_store(ckpt);
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    const rlim_t was = limit.rlim_cur;
    limit.rlim_cur = 50000;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    expect_full(ckpt, "File too large");
    limit.rlim_cur = was;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_assert_eq(save(ckpt, 3, 9.0f, &e), DDPM_OK, "%s", e.text);
    scratch_remove(ckpt);
}

Test(atomic_save, a_full_disk_keeps_the_old)
{
    char mount_point[PATH_CAP], ckpt[PATH_CAP];
    err e = {0};
    scratch_make(mount_point);
    if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
        mount("none", mount_point, "tmpfs", 0, "size=320k")) {
        scratch_remove(mount_point);
        cr_skip_test("a small tmpfs cannot be mounted here (not root?)");
    }
    (void)snprintf(ckpt, sizeof ckpt, "%s", in_dir(mount_point, "ckpt"));
    for (int step = 1; step <= 2; step++) cr_assert_eq(save(ckpt, step, (float)step, &e), DDPM_OK, "%s", e.text);
    expect_full(ckpt, "No space left on device");
    cr_assert_eq(prune(ckpt, 2, 1), DDPM_OK);
    cr_assert_eq(save(ckpt, 3, 9.0f, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(umount(mount_point), 0);
    scratch_remove(mount_point);
}

/* ---- power loss: what a kill cannot show ---- */

static ino_t inode_of(const char *path)
{
    struct stat info;
    cr_assert_eq(stat(path, &info), 0);
    return info.st_ino;
}

/* All that was written is fsynced, then the folder, then it is renamed, then the parent is fsynced. */
Test(atomic_save, nothing_is_renamed_before_it_is_on_the_disk)
{
    char ckpt[PATH_CAP];
    err e = {0};
    make_store(ckpt);
    for (int64_t step = 3; step >= 2; step--) { /* a new one; then one that is replaced */
        fault.watch = true;
        fault.n_dirty = 0;
        fault.renamed_to[0] = '\0';
        cr_assert_eq(save(ckpt, step, 9.0f, &e), DDPM_OK, "%s", e.text);
        fault.watch = false;
        char name[CHECKPOINT_NAME_CAP];
        const char *path = in_dir(ckpt, checkpoint_name(name, step));
        cr_assert_str_eq(fault.renamed_to, path);
        cr_assert_eq(fault.dirty_at_rename, 0, "%d files were renamed unsynced", fault.dirty_at_rename);
        cr_assert_eq(fault.before_rename, inode_of(path));
        cr_assert_eq(fault.after_rename, inode_of(ckpt));
    }
    scratch_remove(ckpt);
}
