/* Messages: one line, whose reason stands whatever length the paths have. */
#include "base/err.h"
#include "base/notes.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { LONG = 4000 };

static err e;

/* "runs/aaa...aaa/end": `n` bytes. */
static const char *long_path(int n)
{
    static char path[2][LONG + 200];
    static char aaa[LONG + 1];
    static int next;
    memset(aaa, 'a', LONG);
    char *p = path[next ^= 1];
    (void)snprintf(p, sizeof path[0], "runs/%.*s/end", n - 9, aaa);
    return p;
}

static void expect_both_ends(const char *head, const char *tail)
{
    const size_t n = strlen(e.text), m = strlen(tail);
    cr_assert_lt(n, sizeof e.text);
    cr_expect_eq(strncmp(e.text, head, strlen(head)), 0, "%s", e.text);
    cr_expect(n >= m && !strcmp(e.text + n - m, tail), "%s", e.text);
}

Test(err, a_long_path_does_not_hide_the_reason_faults_D)
{
    for (int n = 500; n <= LONG; n += 7) {
        cr_assert_eq(err_errno(&e, DDPM_EIO, ENOSPC, "%s: cannot write", long_path(n)), DDPM_EIO);
        expect_both_ends("runs/aaaa", "aaaa/end: cannot write: No space left on device");
    }
    cr_expect_not_null(strstr(e.text, "a...a"), "%s", e.text);
}

Test(err, what_is_said_between_two_long_paths_stays_faults_D)
{
    err_errno(&e, DDPM_EIO, EACCES, "%s: cannot become %s", long_path(LONG), long_path(LONG));
    expect_both_ends("runs/aaaa", "aaaa/end: Permission denied");
    cr_expect_not_null(strstr(e.text, "/end: cannot become runs/aaa"), "%s", e.text);
}

Test(err, a_message_within_a_message_keeps_its_reason_faults_D)
{
    err outer = {0};
    err_errno(&e, DDPM_EIO, ENOSPC, "%s: cannot write", long_path(LONG));
    err_set(&outer, DDPM_EIO, "step 20 was not saved: %s; %s is as it was", e.text, long_path(LONG));
    e = outer;
    expect_both_ends("step 20 was not saved: runs/aaa", "aaaa/end is as it was");
    cr_expect_not_null(strstr(e.text, "cannot write: No space left on device; "), "%s", e.text);
}

Test(err, long_paths_of_short_words_lose_the_middle_faults_D)
{
    char path[LONG] = "";
    while (strlen(path) < LONG - 10) strcat(path, "of my ");
    err_set(&e, DDPM_EDATA, "%send: damaged PNG", path);
    expect_both_ends("of my of my ", "of my of my end: damaged PNG");
    cr_expect_eq(strlen(e.text), sizeof e.text - 1);
}

/* Letters of two, three and four bytes, at every offset. */
Test(err, no_letter_is_cut_in_two_faults_D)
{
    static const char *const letters[] = {"\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x8e\xa8"};
    char path[LONG + 8];
    for (size_t k = 0; k < 3; k++)
        for (int shift = 0; shift < 4; shift++) {
            const size_t n = strlen(letters[k]);
            memset(path, 'x', (size_t)shift);
            path[shift] = '\0';
            for (size_t at = (size_t)shift; at + n < LONG; at += n) memcpy(path + at, letters[k], n + 1);
            err_set(&e, DDPM_EDATA, "%s: damaged", path);
            size_t bytes = 0;
            for (const char *c = e.text; *c; c++) bytes += (unsigned char)*c >= 0x80;
            cr_expect_eq(bytes % n, 0, "shift %d: %s", shift, e.text);
            for (const char *c = e.text; *c; c++)
                if ((unsigned char)*c >= 0xc0)
                    cr_assert_eq(strncmp(c, letters[k], n), 0, "shift %d: %s", shift, e.text);
        }
}

Test(err, short_messages_are_as_they_were_written)
{
    err_set(&e, DDPM_EINVAL, "%s", "threads=-1: at least 1");
    cr_expect_str_eq(e.text, "threads=-1: at least 1");
    char full[sizeof e.text];
    memset(full, 'y', sizeof full - 1);
    full[sizeof full - 1] = '\0';
    err_set(&e, DDPM_EINVAL, "%s", full);
    cr_expect_str_eq(e.text, full);
    err_set(&e, DDPM_EINVAL, "again: %s", e.text); /* its own text as an argument */
    expect_both_ends("again: yyy", "yyy");
    err_set(&e, DDPM_EINVAL, "a\nb");
    cr_expect_str_eq(e.text, "a?b");
    cr_expect_eq(err_set(NULL, DDPM_EIO, "x"), DDPM_EIO);
}

Test(err, remarks_and_lines_of_the_log_keep_their_ends_faults_D)
{
    notes n = {.text = ""};
    notes_add(&n, "%s: fell back to step 20", long_path(LONG));
    cr_expect_not_null(strstr(n.text, "/end: fell back to step 20"), "%s", n.text);
    for (int i = 0; i < 40; i++) notes_add(&n, "%s: is damaged, number %d", long_path(LONG), i);
    cr_expect_not_null(strstr(n.text, "/end: is damaged, number 3"), "%s", n.text);
    const size_t used = strlen(n.text);
    cr_expect(used < sizeof n.text);
    const char *last = strrchr(n.text, ';');
    cr_expect_not_null(strstr(last, "/end: is damaged, number "), "the last one is whole: %s", last);
}
