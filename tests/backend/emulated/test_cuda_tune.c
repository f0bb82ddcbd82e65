/* Autotuning: the choice of algos by timing. */
#include "base/file.h"
#include "backend/emulated/scripted_engines.h"
#include "support/io_support.h"

TestSuite(cuda_tune, .init = set_up, .fini = nothing_left);

/* ---- timing ---- */

Test(cuda_tune, keeps_the_fastest_algo)
{
    library first = three(10, 20, 30), middle = three(20, 10, 30), last = three(30, 20, 10);
    cr_expect_str_eq(kept_with(&usual, &first), "a");
    cr_expect_str_eq(kept_with(&usual, &middle), "b");
    cr_expect_str_eq(kept_with(&usual, &last), "c");
}

Test(cuda_tune, tells_close_algos_apart)
{
    library l = three(10.3, 10.2, 10.1);
    cr_expect_str_eq(kept_with(&usual, &l), "c");
}

Test(cuda_tune, counts_the_host_only_where_algos_are_launched_by_themselves)
{
    tuner_spec eager = usual;
    library l = three(10, 12, 40);
    l.algo[0].host_us = 30;
    cr_expect_str_eq(kept_with(&usual, &l), "a");
    eager.eager = true;
    cr_expect_str_eq(kept_with(&eager, &l), "b");
}

Test(cuda_tune, does_not_count_the_first_run)
{
    library l = three(20, 10, 30);
    l.algo[1].first_us = 5000;
    cr_expect_str_eq(kept_with(&usual, &l), "b");
}

Test(cuda_tune, looks_twice_at_algos_that_are_close)
{
    library l = three(11, 10, 12);
    l.algo[1].early_us = 2.5;
    cr_expect_str_eq(kept_with(&usual, &l), "b");
    l = three(11, 10, 11.5); /* too far behind the first for the shortlist */
    l.algo[1].early_us = 5;
    cr_expect_str_eq(kept_with(&usual, &l), "a");
}

/* Times are medians, so one disturbed run does not matter, whichever it is. */
Test(cuda_tune, is_not_misled_by_one_disturbed_run)
{
    tuner_spec eager = usual;
    eager.eager = true;
    for (int odd = 3; odd < 60; odd++) {
        library l = three(12, 10, 30);
        l.algo[1].odd_run = odd;
        cr_assert_str_eq(kept_with(&eager, &l), "b", "run %d", odd);
    }
}

Test(cuda_tune, spends_little_on_hopeless_algos)
{
    library l = three(100, 1000, 90);
    cr_expect_str_eq(kept_with(&usual, &l), "c");
    cr_expect_eq(l.runs[1], 2);
    cr_expect_gt(l.runs[2], 5);
}

Test(cuda_tune, reports_microseconds_of_one_run)
{
    library l = three(50, 12.5, 70);
    char *text = NULL;
    size_t size = 0;
    tuner *c = begin(&usual);
    get(c, "conv:1", &l);
    FILE *to = open_memstream(&text, &size);
    tuner_report(c, to);
    (void)fclose(to);
    cr_expect_str_eq(text, "conv:1\tb\t12.50\t3\n");
    free(text);
    tuner_destroy(c);
}

Test(cuda_tune, rotates_operands_over_more_than_the_cache)
{
    const size_t set = 1024 + 768; /* 1000 and 600 in multiples of 256 */
    tuner_spec spec = usual;
    library l = three(10, 20, 30);
    spec.l2 = 10000;
    (void)kept_with(&spec, &l);
    const int sets = (int)(device.largest / set);
    cr_expect_eq(sets, 12); /* 21504 bytes */
    cr_assert_gt(l.n_run, 2 * sets);
    const int timed = l.n_run - 4; /* the last four compare results */
    for (int i = 0; i < timed; i++)
        for (int k = i + 1; k < timed && k < i + sets; k++) cr_assert_neq(l.address[i], l.address[k]);
}

Test(cuda_tune, large_operands_come_in_three_sets)
{
    library l = three(10, 20, 30);
    l.bytes[LARGE] = 10 * L2;
    (void)kept_with(&usual, &l);
    cr_expect_eq(device.largest, 3 * (size_t)(10 * L2 + 1024 + 768));
}

Test(cuda_tune, takes_fewer_sets_where_memory_is_short)
{
    library l = three(20, 10, 30);
    device.memory = 1024 + 768;
    cr_expect_str_eq(kept_with(&usual, &l), "b");
    cr_expect_eq(device.largest, 1024 + 768);
}

Test(cuda_tune, leaves_out_algos_whose_workspace_is_too_large)
{
    library l = three(30, 20, 10);
    l.algo[0].workspace = 1000;
    l.algo[1].workspace = usual.workspace_cap;
    l.algo[2].workspace = usual.workspace_cap + 1;
    cr_expect_str_eq(kept_with(&usual, &l), "b");
    cr_expect_eq(l.runs[2], 0);
    library again = l;
    memset(again.runs, 0, sizeof again.runs);
    device.memory = 1 << 18; /* less than the workspace cap */
    cr_expect_str_eq(kept_with(&usual, &again), "a");
    cr_expect_eq(again.runs[1], 0);
}

Test(cuda_tune, names_the_workspace_of_the_kept_algo)
{
    library l = three(20, 10, 30);
    l.algo[1].workspace = 4321;
    tuner *c = begin(&usual);
    cr_expect_eq(tuner_workspace(get(c, "p", &l)), 4321);
    tuner_destroy(c);
}

Test(cuda_tune, drops_algos_that_fail)
{
    for (int how = FAILS; how <= FAILS_RECORDED; how++) {
        library l = three(10, 20, 30);
        l.algo[0].how = how;
        cr_expect_str_eq(kept_with(&usual, &l), "b");
        cr_expect_not(device.recording);
    }
}

/* Equally fast: within 2 %. */
Test(cuda_tune, prefers_the_smaller_workspace_of_algos_that_are_equally_fast)
{
    library l = three(10, 10.15, 10.3);
    l.algo[0].workspace = 3000, l.algo[1].workspace = 2000, l.algo[2].workspace = 1000;
    cr_expect_str_eq(kept_with(&usual, &l), "b");
    l.algo[0].workspace = 0;
    cr_expect_str_eq(kept_with(&usual, &l), "a");
}

/* The fastest algo is dropped if its results are wrong, and named. */
Test(cuda_tune, drops_algos_whose_results_differ)
{
    static const int wrong[] = {OFF_BY_2_PERCENT, NOT_FINITE, IGNORES_ADDEND};
    for (int k = 0; k < 3; k++)
        for (int at = 0; at < 3; at++) { /* whichever the library proposes first */
            library l = three(20, 20, 20);
            l.accumulates = wrong[k] == IGNORES_ADDEND;
            l.algo[at].us = 10, l.algo[at].how = wrong[k];
            l.algo[(at + 1) % 3].us = 15;
            tuner *c = begin(&usual);
            char name[PRIMITIVE_NAME];
            primitive *p = get(c, "conv:1", &l);
            p->fn->name(p, 0, name);
            cr_expect_str_eq(name, l.algo[(at + 1) % 3].name, "fault %d of algo %d: %s", k, at, name);
            const char *said = tuner_warning(c);
            cr_expect(strstr(said, "conv:1: algo ") && strstr(said, l.algo[at].name) && strstr(said, "is not used"),
                      "%s", said);
            tuner_destroy(c);
        }
}

Test(cuda_tune, the_first_choice_of_the_library_counts_where_only_two_algos_differ)
{
    library l = three(20, 10, 0);
    l.algo[2].name = NULL;
    l.algo[1].how = OFF_BY_2_PERCENT;
    cr_expect_str_eq(kept_with(&usual, &l), "a");
    l.algo[0].how = OFF_BY_2_PERCENT, l.algo[1].how = WORKS;
    l.algo[0].us = 10, l.algo[1].us = 20;
    cr_expect_str_eq(kept_with(&usual, &l), "a");
}

Test(cuda_tune, a_slow_algo_is_taken_where_the_shortlist_is_wrong)
{
    library l = three(10, 11, 100);
    l.algo[3] = (script){.name = "d", .us = 200};
    l.algo[0].how = l.algo[1].how = OFF_BY_2_PERCENT;
    l.algo[1].how = NOT_FINITE;
    cr_expect_str_eq(kept_with(&usual, &l), "c");
}

Test(cuda_tune, small_differences_are_those_of_rounding)
{
    library l = three(20, 10, 20);
    cr_expect_str_eq(kept_with(&usual, &l), "b");
    tuner *c = begin(&usual);
    (void)get(c, "p", &l);
    cr_expect_str_eq(tuner_warning(c), "");
    tuner_destroy(c);
}

Test(cuda_tune, fails_where_all_algos_do)
{
    library l = three(10, 20, 30);
    err why = {0};
    primitive *p = NULL;
    for (int i = 0; i < 3; i++) l.algo[i].how = FAILS;
    tuner *c = begin(&usual);
    for (int again = 0; again < 2; again++) { /* a failure is not cached */
        cr_assert_eq(tuner_get(c, "conv:forward", make, &l, &l, &p, &why), DDPM_EBACKEND);
        cr_expect_null(p);
        cr_expect_str_eq(why.text, "conv:forward: none of 3 algos can run: c cannot");
        cr_expect_eq(l.live, 0);
        cr_expect_eq(l.made, again + 1);
    }
    tuner_destroy(c);
}

/* ---- the table ---- */

Test(cuda_tune, makes_every_problem_once_with_the_search_it_was_given)
{
    library one = three(10, 20, 30), two = three(30, 20, 10);
    tuner *c = begin(&usual);
    primitive *p = get(c, "one", &one);
    cr_expect_neq(get(c, "two", &two), p);
    cr_expect_eq(get(c, "one", &one), p);
    cr_expect_eq(one.made, 1);
    cr_expect(one.asked.deterministic);
    cr_expect_eq(one.asked.workspace_cap, usual.workspace_cap);
    cr_expect_null(one.asked.cached_algo);
    tuner_destroy(c);
    tuner_spec loose = usual;
    loose.deterministic = false;
    (void)kept_with(&loose, &one);
    cr_expect_not(one.asked.deterministic);
    tuner_destroy(NULL);
}

Test(cuda_tune, remembers_that_there_is_none)
{
    library l = {.none = true};
    tuner *c = begin(&usual);
    cr_expect_null(get(c, "sdpa", &l));
    cr_expect_null(get(c, "sdpa", &l));
    cr_expect_eq(l.made, 1);
    tuner_destroy(c);
}

Test(cuda_tune, says_why_there_is_none)
{
    library silent = {.none = true}, other = {.none = true, .reason = "cuDNN has no engine: no compiler"};
    tuner *c = begin(&usual);
    cr_expect_null(get(c, "sdpa:1", &silent));
    cr_expect_str_eq(tuner_warning(c), "");
    cr_expect_null(get(c, "sdpa:2", &other));
    cr_expect_str_eq(tuner_warning(c), "sdpa:2: slower matrix products are used: cuDNN has no engine: no compiler");
    tuner_destroy(c);
}

Test(cuda_tune, hands_on_why_none_can_be_made)
{
    library l = {.status = DDPM_EBACKEND};
    err why = {0};
    primitive *p;
    tuner *c = begin(&usual);
    cr_expect_eq(tuner_get(c, "gemm:7", make, &l, &l, &p, &why), DDPM_EBACKEND);
    cr_expect_str_eq(why.text, "gemm:7: nothing does it");
    tuner_destroy(c);
}

Test(cuda_tune, fails_cleanly_at_every_call_of_the_runtime)
{
    char dir[PATH_CAP];
    scratch_make(dir);
    for (int kind = 0; kind < 4; kind++) {
        int n = 1, failures = 0;
        for (bool reached = true; reached; n++) {
            set_up();
            device.fail_at = n;
            device.fail_with = kind % 2 ? DDPM_ENOMEM : DDPM_EBACKEND;
            library l = three(12, 11, 10);
            l.algo[0].workspace = 3000;
            tuner_spec spec = usual;
            spec.eager = kind >= 2;
            spec.file = in_dir(dir, "algos");
            tuner *c = begin(&spec);
            err why = {0};
            primitive *p = NULL;
            const ddpm_status st = tuner_get(c, "p", make, &l, &l, &p, &why);
            cr_assert_eq(p != NULL, st == DDPM_OK);
            cr_assert_eq(why.text[0] != '\0', st != DDPM_OK);
            cr_assert_eq(l.live, st == DDPM_OK ? 1 : 0);
            cr_assert_not(device.recording);
            failures += st != DDPM_OK;
            tuner_destroy(c);
            cr_assert_eq(device.live, 0, "call %d leaks", n);
            cr_assert_eq(l.live, 0);
            reached = device.calls >= n;
            OK(dir_remove(in_dir(dir, "algos"), &why));
        }
        cr_expect_gt(n, 30, "only %d calls", n);
        cr_expect_geq(failures, 1);
    }
    scratch_remove(dir);
}
