/* A file of lines whose writes fail in the middle (faults A12: a half line was glued to the next one for ever). */
#include "base/line_file.h"
#include "base/mem.h"
#include "support/io_support.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static err why;
static char folder[PATH_CAP];
static void make_folder(void) { scratch_make(folder); }
static void remove_folder(void) { scratch_remove(folder); }
TestSuite(line_file, .init = make_folder, .fini = remove_folder, .timeout = 20);

static bool append(line_file *f, const char *text) { return line_file_append(f, text, strlen(text)); }

static void expect_text(const char *expected)
{
    char *text = get_text(in_dir(folder, "f"));
    cr_expect_str_eq(text, expected);
    mem_free(text);
}

static void limit_size(rlim_t bytes)
{
    struct rlimit limit;
    (void)signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

Test(line_file, a_line_that_does_not_fit_leaves_nothing_of_itself)
{
    line_file f;
    struct rlimit before;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &before), 0);
    OK(line_file_open(&f, in_dir(folder, "f"), &why));
    cr_expect(append(&f, "one\n"));
    limit_size(8);
    cr_expect_not(append(&f, "too long\n"));
    limit_size(before.rlim_cur);
    expect_text("one\n");
    cr_expect(append(&f, "two\n"));
    expect_text("one\ntwo\n");
    line_file_close(&f);
}

Test(line_file, what_another_process_left_half_written_is_not_continued)
{
    line_file f;
    put_file(in_dir(folder, "f"), "one\nha");
    OK(line_file_open(&f, in_dir(folder, "f"), &why));
    cr_expect(append(&f, "two\n"));
    cr_expect(append(&f, "three\n"));
    expect_text("one\nha\ntwo\nthree\n");
    line_file_close(&f);
}

Test(line_file, only_a_regular_file_is_one)
{
    line_file f;
    put_file(in_dir(folder, "target"), "");
    cr_assert_eq(symlink(in_dir(folder, "target"), in_dir(folder, "link")), 0);
    cr_assert_eq(mkfifo(in_dir(folder, "pipe"), 0666), 0);
    cr_expect_eq(line_file_open(&f, in_dir(folder, "link"), &why), DDPM_EIO);
    cr_expect_eq(line_file_open(&f, in_dir(folder, "pipe"), &why), DDPM_EIO);
    cr_expect_not_null(strstr(why.text, "not a regular file"), "%s", why.text);
    cr_expect_eq(line_file_open(&f, folder, &why), DDPM_EIO);
    line_file_close(&f);
}
