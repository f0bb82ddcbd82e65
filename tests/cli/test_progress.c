/* The progress line: its words, its rates, and how it behaves on a terminal, in a file and in a broken pipe. */
#include "cli/progress.c"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>

/* ---- the line ------------------------------------------------------------------------------------ */

static progress_line full_line(void)
{
    return (progress_line){.noun = "step",
                           .done = 12000,
                           .total = 500000,
                           .loss = 0.03124,
                           .grad_norm = 0.41,
                           .lr = 2e-4,
                           .images_per_second = 1834.2,
                           .steps_per_second = 14.33,
                           .memory_used = 11.2 * 1024 * 1024 * 1024,
                           .memory_total = 80.0 * 1024 * 1024 * 1024,
                           .bytes_written = 33.1 * 1024 * 1024,
                           .share_waited = 0.0034,
                           .seconds_left = 68050};
}

Test(line, says_it_all)
{
    char text[PROGRESS_LINE];
    const progress_line line = full_line();
    progress_format(text, &line);
    cr_assert_str_eq(text, "step 12000/500000  2.4%  loss 0.0312  grad 0.41  lr 2.0e-04  1834 img/s  14.3 it/s  "
                           "mem 11.2/80.0 GiB  33.1 MiB written  0.3% waiting for the disk  ETA 18:54:10");
}

Test(line, leaves_out_what_is_not_known)
{
    char text[PROGRESS_LINE];
    progress_line line = progress_unknown;
    progress_format(text, &line);
    cr_assert_str_eq(text, "step 0/0");
    line.noun = "image", line.done = 999, line.total = 1000;
    line.memory_used = 300.0 * 1024 * 1024;
    progress_format(text, &line);
    cr_assert_str_eq(text, "image 999/1000  99.9%  mem 300 MiB");
    line.memory_total = 512.0 * 1024 * 1024;
    progress_format(text, &line);
    cr_assert_str_eq(text, "image 999/1000  99.9%  mem 300/512 MiB");
    line.memory_total = 24.0 * 1024 * 1024 * 1024;
    progress_format(text, &line);
    cr_assert_str_eq(text, "image 999/1000  99.9%  mem 300 MiB");
    line.done = 999999, line.total = 1000000, line.memory_used = -1;
    progress_format(text, &line);
    cr_assert_str_eq(text, "image 999999/1000000  99.9%"); /* 100.0% would be a lie */
    line.done = line.total, line.images_per_second = 9.994, line.steps_per_second = 0.051;
    progress_format(text, &line);
    cr_assert_str_eq(text, "image 1000000/1000000  100.0%  9.99 img/s  0.05 it/s");
}

Test(line, shows_a_loss_that_is_not_a_number)
{
    char text[PROGRESS_LINE];
    progress_line line = progress_unknown;
    line.done = 1, line.total = 2, line.loss = (double)NAN, line.grad_norm = (double)INFINITY;
    progress_format(text, &line);
    cr_assert_str_eq(text, "step 1/2  50.0%  loss nan  grad inf");
    line.loss = line.grad_norm = -(double)NAN; /* as a sum of squares with a NaN is */
    progress_format(text, &line);
    cr_assert_str_eq(text, "step 1/2  50.0%  loss nan  grad nan");
}

Test(line, fits_whatever_the_numbers)
{
    char text[PROGRESS_LINE];
    progress_line line = {.noun = "a noun that is much too long for a line", .done = INT64_MAX, .total = INT64_MAX};
    line.loss = line.grad_norm = line.lr = line.images_per_second = line.steps_per_second = 1e300;
    line.memory_used = line.memory_total = line.seconds_left = 1e300;
    progress_format(text, &line);
    cr_assert_lt(strlen(text), PROGRESS_LINE);
}

Test(line, durations)
{
    static const struct {
        double seconds;
        const char *text;
    } known[] = {{0, "0:00"},       {59.4, "0:59"},      {59.6, "1:00"},          {3599, "59:59"},
                 {3600, "1:00:00"}, {86399, "23:59:59"}, {86400, "1d 00:00:00"},  {274329, "3d 04:12:09"},
                 {-1, "-"},         {(double)NAN, "-"},  {(double)INFINITY, "-"}, {1e12, "-"}};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[32];
        progress_duration(text, sizeof text, known[i].seconds);
        cr_expect_str_eq(text, known[i].text);
    }
}

/* ---- the rate ------------------------------------------------------------------------------------ */

Test(rate, is_unknown_until_warm_and_then_at_once_right)
{
    progress_rate r;
    progress_rate_begin(&r, 100);
    progress_rate_add(&r, 0, 101); /* slow: algorithms are being chosen */
    progress_rate_add(&r, 50, 102);
    progress_rate_add(&r, 99, 103);
    cr_assert_eq(progress_rate_get(&r), -1);
    progress_rate_add(&r, 99.5, 104); /* the first that counts, and its weight is not 1 - exp(-0.5/30) */
    cr_assert_float_eq(progress_rate_get(&r), 2, 1e-12);
    for (int i = 0; i < 1000; i++) progress_rate_add(&r, 100 + 0.5 * i, 105 + i);
    cr_assert_float_eq(progress_rate_get(&r), 2, 1e-9);
}

/* After `t` seconds at 4 steps/s, a past of 2 steps/s still weighs exp(-t / 30). */
/* A training that returns to an earlier step: the steps that are repeated count as others do. */
Test(rate, is_never_negative)
{
    progress_rate r;
    progress_rate_begin(&r, 0);
    for (int i = 1; i <= 100; i++) progress_rate_add(&r, 0.5 * i, i);
    progress_rate_add(&r, 51, 41);
    cr_assert_eq(progress_rate_get(&r), -1);
    for (int i = 1; i <= 10; i++) progress_rate_add(&r, 51 + 0.5 * i, 41 + i);
    cr_assert_float_eq(progress_rate_get(&r), 2, 1e-9);
}

Test(rate, forgets_with_the_stated_time_constant)
{
    progress_rate r;
    double now = 0;
    int64_t done = 3;
    progress_rate_begin(&r, 0);
    for (; done < 8000; done++, now += 0.5) progress_rate_add(&r, now, done);
    for (int i = 0; i < 120; i++, done++) progress_rate_add(&r, now += 0.25, done); /* 30 s */
    cr_assert_float_eq(progress_rate_get(&r), 4 - 2 * exp(-1), 0.02);
}

/* ---- where it is shown --------------------------------------------------------------------------- */

static size_t read_all(int fd, char *out, size_t cap)
{
    size_t used = 0;
    ssize_t n;
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    while (used < cap - 1 && (n = read(fd, out + used, cap - 1 - used)) > 0) used += (size_t)n;
    out[used] = 0;
    return used;
}

static progress_line at_step(int64_t done)
{
    progress_line line = progress_unknown;
    line.done = done, line.total = 100;
    return line;
}

Test(screen, a_file_gets_a_line_per_interval)
{
    char *text = NULL;
    size_t size;
    int shown = 0;
    progress p;
    FILE *out = tmpfile();
    cr_assert(out);
    progress_begin(&p, out, 30, 4, 1000, 0);
    cr_assert(!p.terminal);
    for (int64_t done = 1; done <= 70; done++) { /* one step a second */
        const double now = 1000 + (double)done;
        if (!progress_step(&p, now, done)) continue;
        progress_show(&p, now, at_step(done));
        shown++;
    }
    progress_note(&p, "saved");
    progress_end(&p);
    cr_assert_eq(shown, 2);
    size = (size_t)ftell(out);
    text = calloc(1, size + 1);
    rewind(out);
    cr_assert_eq(fread(text, 1, size, out), size);
    cr_assert_str_eq(text, "step 30/100  30.0%  4.00 img/s  1.00 it/s  ETA 1:10\n"
                           "step 60/100  60.0%  4.00 img/s  1.00 it/s  ETA 0:40\nsaved\n");
    free(text), fclose(out);
}

/* The two ends of a pseudo terminal, `columns` wide. */
static FILE *open_terminal(int *screen, unsigned short columns)
{
    const struct winsize size = {.ws_row = 24, .ws_col = columns};
    *screen = posix_openpt(O_RDWR | O_NOCTTY);
    if (*screen < 0 || grantpt(*screen) != 0 || unlockpt(*screen) != 0) cr_skip_test("no pseudo terminals here");
    FILE *out = fopen(ptsname(*screen), "w");
    if (!out) cr_skip_test("no pseudo terminals here");
    (void)ioctl(*screen, TIOCSWINSZ, &size);
    return out;
}

Test(screen, a_terminal_is_redrawn_in_place_four_times_a_second)
{
    char text[1024];
    int screen, shown = 0;
    progress p;
    FILE *out = open_terminal(&screen, 20);
    progress_begin(&p, out, 30, 0, 0, 0);
    cr_assert(p.terminal);
    for (int i = 1; i <= 640; i++) { /* ten seconds, in steps that add up exactly */
        if (!progress_step(&p, i / 64.0, 0)) continue;
        p.last = i / 64.0;
        shown++;
    }
    cr_assert_eq(shown, 40);
    progress_show(&p, 1, at_step(100));
    progress_show(&p, 2, at_step(5));
    progress_note(&p, "saved");
    progress_show(&p, 3, at_step(6));
    progress_end(&p);
    progress_end(&p);
    (void)read_all(screen, text, sizeof text);
    cr_assert_str_eq(text, "\rstep 100/100  100.0" /* cut: one column stays free */
                           "\rstep 5/100  5.0%   "
                           "\r                   \rsaved\r\n"
                           "\rstep 6/100  6.0%\r\n");
    cr_assert(!strchr(text, '\033'), "no escape sequences");
    fclose(out), close(screen);
}

Test(screen, a_reader_that_leaves_is_no_failure)
{
    int ends[2];
    progress p;
    (void)signal(SIGPIPE, SIG_IGN); /* as main does */
    cr_assert_eq(pipe(ends), 0);
    FILE *out = fdopen(ends[1], "w");
    cr_assert(out);
    progress_begin(&p, out, 1, 0, 0, 0);
    close(ends[0]);
    cr_assert(progress_step(&p, 2, 1));
    progress_show(&p, 2, at_step(1));
    cr_assert(!progress_step(&p, 9, 2), "silent from now on");
    progress_show(&p, 9, at_step(2));
    progress_note(&p, "saved");
    progress_end(&p);
    fclose(out);
}

Test(screen, may_be_absent)
{
    progress p;
    progress_begin(&p, NULL, 1, 0, 0, 0);
    cr_assert(!progress_step(&p, 100, 50));
    progress_show(&p, 100, at_step(50));
    progress_note(&p, "nothing");
    progress_end(&p);
}
