/* Winograd or direct convolution: as requested, by timing, or from the cache. */
#include "backend/cpu/cpu_backend.h"
#include "base/file.h"
#include "base/mem.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static char folder[PATH_CAP];

static void set_up(void) { (void)scratch_make(folder); }
static void tear_down(void) { scratch_remove(folder); }
TestSuite(cpu_conv_autotune, .init = set_up, .fini = tear_down);

enum { PASSES = 3 };

static conv_candidates problem(conv_pass pass)
{
    const conv_shape shape = {.pass = pass,
                              .n = 2,
                              .h = 12,
                              .w = 12,
                              .cin = 32,
                              .oh = 12,
                              .ow = 12,
                              .cout = 16,
                              .kernel = 3,
                              .stride = 1,
                              .pad_begin = 1,
                              .pad_end = 1};
    return (conv_candidates){.direct = {.shape = shape, .blocked = onednn_has_blocked_kernels()},
                             .winograd = {.shape = shape, .threads = 1}};
}

static backend *create(conv_algo conv, int threads, const char *own, const char *shared)
{
    err why = {0};
    backend *be = NULL;
    const backend_spec spec = {
        .device = "cpu", .threads = threads, .conv = conv, .autotune_cache = own, .shared_autotune_cache = shared};
    cr_assert_eq(backend_create(&spec, &be, &why), DDPM_OK, "%s", why.text);
    return be;
}

static bool by_winograd(backend *be, conv_pass pass)
{
    err why = {0};
    bool winograd = false;
    const conv_candidates ways = problem(pass);
    cr_assert_eq(
        conv_autotune_choose(((cpu_backend *)be)->autotune, ((cpu_backend *)be)->onednn, &ways, &winograd, &why),
        DDPM_OK, "%s", why.text);
    return winograd;
}

/* The backend's autotune report; free() it. */
static char *report_of(backend *be)
{
    char *text = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&text, &size);
    cr_assert_not_null(to);
    be->fn->report(be, to);
    (void)fclose(to);
    return text;
}

/* Replaces every choice in the file by the other one. */
static void turn_round(const char *path)
{
    err why = {0};
    char *text = get_text(path), *turned = NULL;
    size_t size = 0;
    FILE *to = open_memstream(&turned, &size);
    for (const char *at = text; *at;) {
        const bool w = !strncmp(at, "\twinograd\t", 10), d = !strncmp(at, "\tdirect\t", 8);
        if (w || d) {
            (void)fputs(w ? "\tdirect\t" : "\twinograd\t", to);
            at += w ? 10 : 8;
        } else {
            (void)fputc(*at++, to);
        }
    }
    (void)fclose(to);
    cr_assert_eq(file_replace(path, turned, size, &why), DDPM_OK, "%s", why.text);
    free(turned);
    mem_free(text);
}

Test(cpu_conv_autotune, does_as_it_is_told)
{
    for (int pass = 0; pass < PASSES; pass++) {
        backend *winograd = create(CONV_ALGO_WINOGRAD, 1, NULL, NULL),
                *direct = create(CONV_ALGO_DIRECT, 1, NULL, NULL);
        cr_expect(by_winograd(winograd, (conv_pass)pass), "pass %d", pass);
        cr_expect_not(by_winograd(direct, (conv_pass)pass), "pass %d", pass);
        char *text = report_of(winograd);
        cr_expect_str_eq(text, "", "nothing was timed");
        free(text);
        backend_destroy(winograd);
        backend_destroy(direct);
    }
}

Test(cpu_conv_autotune, times_each_problem_once_and_remembers_it)
{
    const char *file = in_dir(folder, "autotune.txt");
    bool chosen[PASSES];
    backend *be = create(CONV_ALGO_AUTO, 1, file, NULL);
    for (int turn = 0; turn < 2; turn++)
        for (int pass = 0; pass < PASSES; pass++) chosen[pass] = by_winograd(be, (conv_pass)pass);
    char *report = report_of(be);
    cr_expect_eq(count_of(report, "32 > 16"), PASSES, "%s", report);
    cr_expect_eq(count_of(report, "\t0.0"), 0, "%s", report);
    free(report);
    backend_destroy(be);

    char *text = get_text(file);
    cr_expect_eq(count_of(text, "32 > 16"), PASSES, "%s", text);
    mem_free(text);
    turn_round(file); /* a new timing would hardly give the opposite choices */
    be = create(CONV_ALGO_AUTO, 1, file, NULL);
    for (int pass = 0; pass < PASSES; pass++)
        cr_expect_neq(by_winograd(be, (conv_pass)pass), chosen[pass], "pass %d: not as the file says", pass);
    report = report_of(be);
    cr_expect_eq(count_of(report, "\t0.0\t0.0\n"), PASSES, "timed again: %s", report);
    free(report);
    backend_destroy(be);
}

Test(cpu_conv_autotune, another_number_of_threads_is_another_machine)
{
    const char *file = in_dir(folder, "autotune.txt");
    for (int threads = 1; threads <= 2; threads++) {
        backend *be = create(CONV_ALGO_AUTO, threads, file, NULL);
        (void)by_winograd(be, CONV_PASS_FORWARD);
        char *report = report_of(be);
        cr_expect_eq(count_of(report, "\t0.0"), 0, "%d threads: %s", threads, report);
        free(report);
        backend_destroy(be);
    }
    char *text = get_text(file);
    cr_expect_eq(count_of(text, "forward 2x12x12, 32 > 16"), 2, "%s", text);
    mem_free(text);
}

Test(cpu_conv_autotune, sampling_decides_once_for_every_batch)
{
    err why = {0};
    backend *be = create(CONV_ALGO_AUTO, 1, NULL, NULL);
    for (int n = 1; n <= 3; n++) {
        conv_candidates ways = problem(CONV_PASS_FORWARD);
        bool winograd;
        ways.direct.shape.n = ways.winograd.shape.n = n;
        ways.direct.frozen = true;
        cr_assert_eq(
            conv_autotune_choose(((cpu_backend *)be)->autotune, ((cpu_backend *)be)->onednn, &ways, &winograd, &why),
            DDPM_OK, "%s", why.text);
    }
    char *report = report_of(be);
    cr_expect_eq(count_of(report, "forward nx12x12, 32 > 16"), 1, "%s", report);
    cr_expect_eq(count_of(report, "forward"), 1, "%s", report);
    free(report);
    backend_destroy(be);
}

/* There is not enough memory for the whole batch. */
Test(cpu_conv_autotune, a_large_batch_is_timed_in_part)
{
    err why = {0};
    backend *be = create(CONV_ALGO_AUTO, 1, NULL, NULL);
    conv_candidates ways = problem(CONV_PASS_BACKWARD_WEIGHTS);
    bool winograd;
    ways.direct.shape.n = ways.winograd.shape.n = 1 << 30;
    cr_assert_eq(
        conv_autotune_choose(((cpu_backend *)be)->autotune, ((cpu_backend *)be)->onednn, &ways, &winograd, &why),
        DDPM_OK, "%s", why.text);
    char *report = report_of(be);
    cr_expect_eq(count_of(report, "backward weights 1073741824x12x12, 32 > 16"), 1, "%s", report);
    free(report);
    backend_destroy(be);
}

Test(cpu_conv_autotune, a_new_run_does_as_the_user_s_last_one_did)
{
    char first[PATH_CAP], second[PATH_CAP], shared[PATH_CAP];
    (void)snprintf(first, sizeof first, "%s", in_dir(folder, "first.txt"));
    (void)snprintf(second, sizeof second, "%s", in_dir(folder, "second.txt"));
    (void)snprintf(shared, sizeof shared, "%s", in_dir(folder, "shared.txt"));
    backend *be = create(CONV_ALGO_AUTO, 1, first, shared);
    const bool chosen = by_winograd(be, CONV_PASS_FORWARD);
    backend_destroy(be);
    turn_round(shared);
    be = create(CONV_ALGO_AUTO, 1, second, shared);
    cr_expect_neq(by_winograd(be, CONV_PASS_FORWARD), chosen);
    char *report = report_of(be);
    cr_expect_eq(count_of(report, "\t0.0\t0.0\n"), 1, "timed again: %s", report);
    free(report);
    backend_destroy(be);
    char *text = get_text(second);
    cr_expect_eq(count_of(text, chosen ? "\tdirect\t" : "\twinograd\t"), 1, "%s", text);
    mem_free(text);
    be = create(CONV_ALGO_AUTO, 1, first, shared); /* the run's own file takes precedence */
    cr_expect_eq(by_winograd(be, CONV_PASS_FORWARD), chosen);
    backend_destroy(be);
}

Test(cpu_conv_autotune, is_in_the_file_before_anything_is_computed)
{
    err why = {0};
    const char *file = in_dir(folder, "autotune.txt");
    backend *be = create(CONV_ALGO_AUTO, 1, file, NULL);
    for (int pass = 0; pass < PASSES; pass++) (void)by_winograd(be, (conv_pass)pass);
    cr_assert_eq(be->fn->run(be, NULL, 0, 1, &why), DDPM_OK, "%s", why.text);
    char *text = get_text(file);
    cr_expect_eq(count_of(text, "32 > 16"), PASSES, "%s", text);
    mem_free(text);
    backend_destroy(be);
}

Test(cpu_conv_autotune, goes_on_without_a_file_that_is_something_else)
{
    const char *file = in_dir(folder, "autotune.txt"), *other = "dear diary\n";
    put_file(file, other);
    backend *be = create(CONV_ALGO_AUTO, 1, file, NULL);
    cr_assert_not_null(be->remark);
    cr_expect(strstr(be->remark, "autotune.txt"), "%s", be->remark);
    (void)by_winograd(be, CONV_PASS_FORWARD);
    backend_destroy(be);
    char *text = get_text(file);
    cr_expect_str_eq(text, other);
    mem_free(text);
}
