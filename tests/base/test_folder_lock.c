/* One writer a folder, on file systems with locks of either kind or of none.
 *
 * flock(2) and fcntl(2) are defined here, in front of the C library's, so that a file system without them can be had. */
#include "base/file.h"
#include "base/folder_lock.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static bool no_flock, no_fcntl, asked_for_file;

int flock(int fd, int operation)
{
    if (no_flock) return errno = ENOLCK, -1;
    return (int)syscall(SYS_flock, fd, operation);
}

int fcntl(int fd, int command, ...)
{
    va_list ap;
    va_start(ap, command);
    void *argument = va_arg(ap, void *);
    va_end(ap);
    asked_for_file |= command == F_OFD_SETLK;
    if (no_fcntl && command == F_OFD_SETLK) return errno = ENOLCK, -1;
    return (int)syscall(SYS_fcntl, fd, command, argument);
}

static err why;
static char folder[PATH_CAP];

/* What a second taker is told, in a process of its own: 0 where it gets the lock. */
static int second_taker(void)
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        folder_lock other;
        const ddpm_status st = folder_lock_take(&other, folder, "training", &why);
        _exit(st == DDPM_ELOCKED && !strstr(why.text, "process ") ? 99 : (int)st);
    }
    cr_assert(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

static void expect_exclusive(void)
{
    folder_lock mine;
    OK(folder_lock_take(&mine, folder, "training", &why));
    cr_expect_eq(second_taker(), DDPM_ELOCKED);
    folder_lock_release(&mine);
    cr_expect_eq(second_taker(), DDPM_OK);
}

/* faults C8: ENOLCK from fcntl let a second writer in. */
Test(folder_lock, keeps_a_second_writer_out_whatever_locks_there_are)
{
    for (int which = 0; which < 4; which++) {
        no_flock = which & 1, no_fcntl = which & 2;
        scratch_make(folder);
        expect_exclusive();
        scratch_remove(folder);
    }
}

/* faults C8: removing LOCK let a second writer in. */
Test(folder_lock, holds_when_its_file_is_removed)
{
    folder_lock mine, other;
    OK(folder_lock_take(&mine, scratch_make(folder), "training", &why));
    cr_assert_eq(unlink(in_dir(folder, "LOCK")), 0);
    cr_expect_eq(folder_lock_take(&other, folder, "training", &why), DDPM_ELOCKED);
    folder_lock_release(&mine);
    scratch_remove(folder);
}

/* Who comes second lets LOCK be: two that began at once refused each other. */
Test(folder_lock, the_second_does_not_take_half_of_it)
{
    folder_lock mine, other;
    OK(folder_lock_take(&mine, scratch_make(folder), "training", &why));
    asked_for_file = false;
    cr_expect_eq(folder_lock_take(&other, folder, "training", &why), DDPM_ELOCKED);
    cr_expect_not(asked_for_file);
    folder_lock_release(&mine);
    scratch_remove(folder);
}

Test(folder_lock, of_a_process_that_died_is_free)
{
    no_flock = no_fcntl = true;
    const pid_t child = fork();
    scratch_make(folder);
    char text[200], host[64] = "";
    if (child == 0) _exit(0);
    cr_assert_eq(waitpid(child, NULL, 0), child);
    cr_assert_eq(gethostname(host, sizeof host - 1), 0);
    (void)snprintf(text, sizeof text, "process %ld on %s\n", (long)child, host);
    put_file(in_dir(folder, "LOCK"), text);
    expect_exclusive();
    scratch_remove(folder);
}

/* ---- parts ---- */

/* What a process of its own is told that joins and locks a part: 0 where it gets it. */
static int other_joins(int64_t part, bool shared)
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        folder_lock other;
        ddpm_status st = folder_lock_join(&other, folder, "sampling", &why);
        if (st == DDPM_ELOCKED && !strstr(why.text, "another sampling is writing")) _exit(99);
        if (st == DDPM_OK) st = folder_lock_part(&other, part, 1, shared, &why);
        _exit((int)st);
    }
    cr_assert(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
    return WEXITSTATUS(status);
}

Test(folder_lock, those_who_join_exclude_each_other_from_parts)
{
    folder_lock mine, all;
    OK(folder_lock_join(&mine, scratch_make(folder), "sampling", &why));
    OK(folder_lock_part(&mine, 5, 2, false, &why));
    OK(folder_lock_part(&mine, 9, 1, true, &why));
    cr_expect_eq(other_joins(4, false), DDPM_OK);
    cr_expect_eq(other_joins(5, false), DDPM_ELOCKED);
    cr_expect_eq(other_joins(6, true), DDPM_ELOCKED);
    cr_expect_eq(other_joins(9, true), DDPM_OK);
    cr_expect_eq(other_joins(9, false), DDPM_ELOCKED);
    folder_lock_leave(&mine, 5, 2);
    cr_expect_eq(other_joins(5, false), DDPM_OK);
    cr_expect_eq(folder_lock_take(&all, folder, "training", &why), DDPM_ELOCKED);
    folder_lock_release(&mine);
    OK(folder_lock_take(&all, folder, "training", &why));
    cr_expect_eq(other_joins(1, true), DDPM_ELOCKED);
    folder_lock_release(&all);
    cr_expect_eq(other_joins(5, false), DDPM_OK);
    scratch_remove(folder);
}

/* The first of several writers to end left the others without a name in messages. */
Test(folder_lock, names_who_joined_last_after_another_has_ended)
{
    folder_lock mine, other;
    char holder[FOLDER_LOCK_HOLDER], expected[32];
    int status;
    OK(folder_lock_join(&mine, scratch_make(folder), "sampling", &why));
    folder_lock_name(&mine);
    const pid_t child = fork();
    if (child == 0) {
        if (folder_lock_join(&other, folder, "sampling", &why) != DDPM_OK) _exit(1);
        folder_lock_name(&other);
        _exit(0);
    }
    cr_assert(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    folder_lock_release(&mine);
    OK(folder_lock_join(&mine, folder, "sampling", &why));
    folder_lock_holder(&mine, holder);
    (void)snprintf(expected, sizeof expected, "process %ld on ", (long)child);
    cr_expect(!strncmp(holder, expected, strlen(expected)), "%s", holder);
    folder_lock_name(&mine);
    folder_lock_release(&mine);
    OK(folder_lock_join(&mine, folder, "sampling", &why));
    folder_lock_holder(&mine, holder);
    cr_expect_str_eq(holder, "", "who ends is not named any more");
    folder_lock_release(&mine);
    scratch_remove(folder);
}

/* folder_lock_is_held() tells what others hold, and locks nothing. */
Test(folder_lock, tells_which_parts_others_hold)
{
    folder_lock mine, other;
    OK(folder_lock_join(&mine, scratch_make(folder), "sampling", &why));
    OK(folder_lock_join(&other, folder, "sampling", &why));
    OK(folder_lock_part(&other, 5, 1, false, &why));
    cr_expect(folder_lock_is_held(&mine, 5, 1) && folder_lock_is_held(&mine, 4, 3));
    cr_expect(!folder_lock_is_held(&mine, 6, 1) && !folder_lock_is_held(&other, 5, 1));
    cr_expect_eq(other_joins(6, false), DDPM_OK);
    folder_lock_release(&mine);
    folder_lock_release(&other);
    scratch_remove(folder);
}

/* Without locks of bytes one process at a time may join, and all parts are its own. */
Test(folder_lock, without_locks_of_parts_one_joins)
{
    for (int which = 0; which < 2; which++) {
        folder_lock mine;
        no_fcntl = true, no_flock = which == 1;
        OK(folder_lock_join(&mine, scratch_make(folder), "sampling", &why));
        OK(folder_lock_part(&mine, 5, 1, false, &why));
        cr_expect_eq(other_joins(6, false), DDPM_ELOCKED);
        folder_lock_release(&mine);
        cr_expect_eq(other_joins(5, false), DDPM_OK);
        scratch_remove(folder);
    }
}

/* A LOCK that was removed does not let in another, whose locks would be of another file. */
Test(folder_lock, none_joins_where_its_file_was_removed)
{
    folder_lock mine;
    OK(folder_lock_join(&mine, scratch_make(folder), "sampling", &why));
    cr_assert_eq(unlink(in_dir(folder, "LOCK")), 0);
    cr_expect_eq(other_joins(5, false), DDPM_ELOCKED);
    folder_lock_release(&mine);
    cr_expect_eq(other_joins(5, false), DDPM_OK);
    scratch_remove(folder);
}

/* faults C5: a FIFO where a file was expected hung. */
Test(folder_lock, refuses_what_is_no_file, .timeout = 20)
{
    folder_lock mine;
    cr_assert_eq(mkfifo(in_dir(scratch_make(folder), "LOCK"), 0666), 0);
    cr_expect_eq(folder_lock_take(&mine, folder, "training", &why), DDPM_EIO);
    cr_expect_not_null(strstr(why.text, "LOCK: not a regular file"), "%s", why.text);
    scratch_remove(folder);
}
