/* failing_calls.h - the system calls that change a file, defined in front of the C library's, so that the n-th of them
 * can fail or kill the process: a sweep over n is every moment at which a command can end.  For one source a program. */
#ifndef DDPM_TESTS_FAILING_CALLS_H
#define DDPM_TESTS_FAILING_CALLS_H
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_long *countdown; /* shared with children; the call that brings it to 0 fails; below 0: none does */
static int failing_error;      /* its errno, or 0 for SIGKILL */
static bool failing_reads;     /* instead of the calls that change something, those that open a file to read it */
static void (*before_open)(const char *path); /* NULL: nothing happens */

/* To be called before the first child is made. */
static void failing_prepare(void)
{
    void *shared = mmap(NULL, sizeof *countdown, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) abort();
    countdown = shared;
    atomic_store(countdown, -1);
}

static bool counts_down(void)
{
    if (!countdown || atomic_fetch_sub(countdown, 1) != 1) return false;
    if (failing_error == 0) (void)kill(getpid(), SIGKILL);
    errno = failing_error;
    return true;
}

static bool fails(void) { return !failing_reads && counts_down(); }

int open(const char *path, int flags, ...)
{
    va_list ap;
    va_start(ap, flags);
    const unsigned mode = flags & O_CREAT ? va_arg(ap, unsigned) : 0;
    va_end(ap);
    if (before_open) before_open(path);
    const bool counted = flags & O_CREAT ? fails() : failing_reads && counts_down();
    return counted ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
ssize_t write(int fd, const void *from, size_t n) { return fails() ? -1 : syscall(SYS_write, fd, from, n); }
ssize_t pwrite(int fd, const void *from, size_t n, off_t at)
{
    return fails() ? -1 : syscall(SYS_pwrite64, fd, from, n, at);
}
int fallocate(int fd, int mode, off_t at, off_t n)
{
    return fails() ? -1 : (int)syscall(SYS_fallocate, fd, mode, at, n);
}
int fdatasync(int fd) { return fails() ? -1 : (int)syscall(SYS_fdatasync, fd); }
int fsync(int fd) { return fails() ? -1 : (int)syscall(SYS_fsync, fd); }
int syncfs(int fd) { return fails() ? -1 : fd - fd; } /* the whole machine's disk is not a test's business */
int rename(const char *from, const char *to) { return fails() ? -1 : (int)syscall(SYS_rename, from, to); }
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags)
{
    return fails() ? -1 : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, flags);
}
int unlink(const char *path) { return fails() ? -1 : (int)syscall(SYS_unlink, path); }
int rmdir(const char *path) { return fails() ? -1 : (int)syscall(SYS_rmdir, path); }
int mkdir(const char *path, mode_t mode) { return fails() ? -1 : (int)syscall(SYS_mkdir, path, mode); }
int fcntl(int fd, int command, ...) /* a lock counts */
{
    va_list ap;
    va_start(ap, command);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    const bool locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK;
    return locks && fails() ? -1 : (int)syscall(SYS_fcntl, fd, command, argument);
}
int ftruncate(int fd, off_t size) { return fails() ? -1 : (int)syscall(SYS_ftruncate, fd, size); }

/* Waits for a child; returns its exit code, or -1 where it was killed. */
static int failing_end(pid_t child)
{
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) cr_assert_eq(WTERMSIG(status), SIGKILL);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

#endif
