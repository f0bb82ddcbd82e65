/* A set of pictures that several processes write: what another one does meanwhile, what one that was killed has left, and
 * what the system does. */
#include "base/mem.h"
#include "sample/sampling_end.h"
#include "sample/set_check.h"
#include "support/io_support.h"
#include "support/sampling_script.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

TestSuite(sampling_others, .init = script_begin, .fini = script_end, .timeout = 120);

/* ---- units that others hold ---- */

/* Waiting is counted, not done; the other process leaves what it holds after `leaves_at` pauses, 0: never. */
static folder_lock other;
static int leaves_at;

int nanosleep(const struct timespec *request, struct timespec *left)
{
    (void)request, (void)left;
    if (++script.pauses != leaves_at) return 0;
    folder_lock_leave(&other, SAMPLING_UNIT_LOCKS, 10);
    folder_lock_leave(&other, SAMPLING_END_LOCK, 1);
    return 0;
}

/* A process that works on a unit: the others finish theirs and leave the set to it. */
Test(sampling_others, units_of_another_process_are_left_alone)
{
    sampling_tally t;
    make_set("s", &format_tar, "0-899");
    cr_assert_eq(folder_lock_join(&other, set.folder, "sampling", &why), DDPM_OK);
    cr_assert_eq(folder_lock_part(&other, SAMPLING_UNIT_LOCKS + 1, 1, false, &why), DDPM_OK);
    cr_assert_eq(run(0, 1, 64, &t), DDPM_ELOCKED);
    cr_expect_not_null(strstr(why.text, "is drawing pictures 300 to 599"), "%s", why.text);
    cr_expect(t.drawn == 600 && !t.complete);
    folder_lock_leave(&other, SAMPLING_UNIT_LOCKS + 1, 1);
    draw_set(300);
    folder_lock_release(&other);
}

/* One that ends the set is waited for, however long it takes. */
Test(sampling_others, the_end_of_the_set_is_waited_for)
{
    sampling_tally t;
    make_set("s", &format_tar, "0-899");
    cr_assert_eq(folder_lock_join(&other, set.folder, "sampling", &why), DDPM_OK);
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(folder_lock_part(&other, SAMPLING_UNIT_LOCKS, 3, false, &why), DDPM_OK);
        cr_assert_eq(folder_lock_part(&other, SAMPLING_END_LOCK, 1, false, &why), DDPM_OK);
        script.pauses = 0;
        leaves_at = round ? 5000 : 0;
        script.stops_at = round ? 0 : 1000;
        cr_expect_eq(run(0, 1, 64, &t), round ? DDPM_OK : DDPM_ESAVED, "%s", why.text);
        cr_expect(round ? t.complete && t.drawn == 900 : !t.complete && script.pauses >= 999, "%d pauses",
                  script.pauses);
    }
    folder_lock_release(&other);
}

/* A process that was killed as it began leaves an empty file in the folder of unfinished ones: a repair of the finished
 * one replaced it by that. */
Test(sampling_others, an_npz_file_is_repaired_beside_an_empty_one)
{
    make_set("whole", &format_npz, "0-99");
    draw_set(100);
    make_set("s", &format_npz, "0-99");
    draw_set(100);
    flip("samples_100x5x7x3.npz", 9000); /* a picture */
    flip("samples_100x5x7x3.npz", 16);   /* the frame, which the last process writes */
    cr_assert_eq(dir_make(in_dir(set.folder, PICTURE_WORK), &why), DDPM_OK);
    put_file(in_dir(set.folder, PICTURE_WORK "/pictures.npz"), "");
    draw_set(1);
    cr_expect(same_folders("whole", "s"));
}

/* A process that ends the set reads what others drew: it does not end one with a damaged picture. */
Test(sampling_others, an_npz_file_with_damage_in_another_part_is_not_complete)
{
    sampling_tally t;
    make_set("whole", &format_npz, "0-1099");
    draw_set(1100);
    make_set("s", &format_npz, "0-1099");
    draw_set(1100);
    flip("samples_1100x5x7x3.npz", 1050 * D);
    cr_expect_eq(run(0, 2, 64, &t), DDPM_EDATA);
    cr_expect_not_null(strstr(why.text, "is damaged; the same command with rank=1 ranks=2 repairs it"), "%s", why.text);
    cr_assert_eq(run(1, 2, 64, &t), DDPM_OK, "%s", why.text);
    cr_expect(t.complete && t.drawn == 1 && same_folders("whole", "s"));
}

/* What killed processes left unfinished is removed with its folder, unless something else is in it. */
Test(sampling_others, the_folder_of_unfinished_files_is_removed)
{
    static const char *const names[] = {
        "0000012.journal", "0000012.journal.new", "00012.tar", "000123.png", PICTURE_NPZ, MANIFEST, OVERVIEW,
        SAMPLE_SET,        SAMPLE_DESCRIPTION};
    for (int foreign = 0; foreign < 2; foreign++) {
        char work[PATH_CAP];
        make_set(foreign ? "a" : "b", &format_png, "0-9");
        strcpy(work, in_dir(set.folder, PICTURE_WORK));
        cr_assert_eq(dir_make(work, &why), DDPM_OK);
        for (size_t i = 0; i < sizeof names / sizeof *names; i++) put_file(in_dir(work, names[i]), "left");
        if (foreign) put_file(in_dir(work, "notes.txt"), "mine");
        draw_set(10);
        cr_expect_eq(path_exists(work), foreign);
        cr_expect_eq(path_exists(in_dir(work, "notes.txt")), foreign);
        cr_expect_not(path_exists(in_dir(work, MANIFEST)));
    }
}

/* ---- what another process does meanwhile ---- */

/* mkdir(2) is defined here, in front of the C library's: the set is ended by another process just after. */
static char finished[PATH_CAP], ended[PATH_CAP];

int mkdir(const char *path, mode_t mode)
{
    const int failed = (int)syscall(SYS_mkdir, path, mode);
    if (!finished[0] || !strstr(path, PICTURE_WORK)) return failed;
    cr_assert(!rename(finished, ended) && !rmdir(path));
    finished[0] = '\0';
    return failed;
}

/* The folder of unfinished files was removed between its making and the opening of the file in it. */
Test(sampling_others, an_npz_file_is_found_that_another_process_finishes)
{
    make_set("s", &format_npz, "0-99");
    draw_set(100);
    strcpy(ended, in_dir(set.folder, "samples_100x5x7x3.npz"));
    strcpy(finished, in_dir(root, "finished"));
    cr_assert(!rename(ended, finished));
    draw_set(0);
    cr_expect_eq(faults(SET_DAMAGED) + faults(SET_MISSING) + faults(SET_UNKNOWN), 0);
}

static void end_by_another(void)
{
    char *text = get_text(in_dir(root, "whole/" MANIFEST));
    put_file(in_dir(root, "new"), text);
    mem_free(text);
    cr_assert_eq(rename(in_dir(root, "new"), in_dir(set.folder, MANIFEST)), 0);
    cr_assert_eq(unlink(in_dir(set.folder, PICTURE_WORK "/0000001.journal")), 0);
}

/* Another process ends the set, and removes the journals, while this one is at an earlier unit: what is not in a journal
 * any more is in the new manifest. */
Test(sampling_others, a_manifest_of_another_process_is_read)
{
    for (int old = 0; old < 2; old++) { /* without and with an old manifest */
        sampling_tally t;
        make_set("whole", &format_npz, "0-1999");
        draw_set(2000);
        make_set("s", &format_npz, "0-1999");
        cr_assert_eq(run(1, 2, 100, &t), DDPM_OK, "%s", why.text);
        if (old) put_file(in_dir(set.folder, MANIFEST), "");
        script.meanwhile = end_by_another;
        draw_set(1000);
        script.meanwhile = NULL;
        cr_expect(same_folders("whole", "s"));
        script_clear();
    }
}

/* ---- what the system does ---- */

/* fallocate(2) of a large file is interrupted by a signal. */
static int interruptions;

int fallocate(int fd, int mode, off_t at, off_t size)
{
    if (interruptions > 0) return interruptions--, errno = EINTR, -1;
    return (int)syscall(SYS_fallocate, fd, mode, at, size);
}

Test(sampling_others, a_signal_while_an_npz_file_is_given_its_size)
{
    make_set("s", &format_npz, "0-9");
    interruptions = 2;
    draw_set(10);
    cr_expect_eq(interruptions, 0);
    cr_expect_eq(faults(SET_DAMAGED) + faults(SET_MISSING), 0);
}

/* pwrite(2) of some file systems writes nothing, and says so, where the disk is full. */
static bool full;

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at)
{
    return full ? 0 : syscall(SYS_pwrite64, fd, bytes, size, at);
}

Test(sampling_others, nothing_written_is_a_full_disk)
{
    sampling_tally t;
    static const picture_format *const formats[] = {&format_tar, &format_npz}; /* what pwrite() writes */
    for (int f = 0; f < 2; f++) {
        make_set(formats[f]->name, formats[f], "0-9");
        full = true;
        cr_expect_eq(run(0, 1, 3, &t), DDPM_EIO);
        cr_expect_not_null(strstr(why.text, strerror(ENOSPC)), "%s", why.text);
        full = false;
        draw_set(10);
    }
}

Test(sampling_others, a_file_that_ends_too_early_is_named)
{
    uint8_t pixels[D];
    picture_store s;
    make_set("s", &format_npz, "0-9");
    draw_set(10);
    cr_assert_eq(truncate(in_dir(set.folder, "samples_10x5x7x3.npz"), 1000), 0);
    cr_assert_eq(picture_store_open(&s, &set, true, &why), DDPM_OK);
    cr_expect_eq(format_npz.read(&s, 9, pixels, &why), DDPM_EIO);
    cr_expect_not_null(strstr(why.text, "cannot be read: the file ends before"), "%s", why.text);
    picture_store_close(&s);
}
