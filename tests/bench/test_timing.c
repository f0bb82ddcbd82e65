/* What is said of many timings, the roofline, and what the system says about a process. */
#include "bench/timing.h"
#include "base/clock.h"
#include "base/process.h"
#include "support/ok.h"
#include "bench/bench.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- statistics: numpy 2's median and percentile, which also take the line between two values ----------- */

static const struct {
    int n;
    double value[11], median, p10, p90;
} series[] = {
    {1, {3.5}, 3.5, 3.5, 3.5},
    {2, {2, 1}, 1.5, 1.1, 1.9},
    {5, {5, 1, 4, 2, 3}, 3, 1.4, 4.6},
    {11, {0.25, 9, 7.5, 1, 1, 3, 12, 6, 2.5, 4, 8}, 4, 1, 9},
};

Test(timing, quantiles_are_numpys)
{
    for (size_t i = 0; i < sizeof series / sizeof *series; i++) {
        double v[11];
        memcpy(v, series[i].value, sizeof v);
        const timing t = timing_of(v, series[i].n);
        cr_expect_eq(t.n, series[i].n);
        cr_expect_float_eq(t.median, series[i].median, 1e-12, "%zu: median %g", i, t.median);
        cr_expect_float_eq(t.p10, series[i].p10, 1e-12, "%zu: p10 %g", i, t.p10);
        cr_expect_float_eq(t.p90, series[i].p90, 1e-12, "%zu: p90 %g", i, t.p90);
    }
    double v[11];
    memcpy(v, series[3].value, sizeof v);
    const timing t = timing_of(v, 11);
    cr_expect(t.min == 0.25 && t.max == 12);
    const timing none = timing_of(NULL, 0);
    cr_expect(none.n == 0 && none.median == 0);
}

/* By hand: 2e9 operations at 4 TFLOP/s are 0.5 ms, 3e8 bytes at 100 GB/s are 3 ms. */
Test(timing, roofline_is_the_longer_of_computing_and_moving)
{
    const machine_peak peak = {.tflop_per_s = 4, .gb_per_s = 100};
    cr_expect_float_eq(roofline_ms(2e9, 1e6, &peak), 0.5, 1e-12);
    cr_expect_float_eq(roofline_ms(2e9, 3e8, &peak), 3, 1e-12);
    cr_expect_float_eq(roofline_ms(0, 3e8, &peak), 3, 1e-12);
    cr_expect_eq(roofline_ms(0, 0, &peak), 0);
    cr_expect_eq(roofline_ms(1e9, 1e9, &(machine_peak){0}), 0, "an unknown peak bounds nothing");
}

static step step_of(op_kind op) { return (step){.op = op}; }

Test(timing, sums_are_by_op_and_phase_and_the_order_by_time_lost)
{
    step conv = step_of(OP_conv2d), back = step_of(OP_conv2d_dx), copy = step_of(OP_copy);
    step_cost ops[] = {
        {&conv, PHASE_FORWARD, {.median = 4}, 8e6, 1e3, 3.5}, {&copy, PHASE_FORWARD, {.median = 1}, 0, 5e5, 0.9},
        {&back, PHASE_BACKWARD, {.median = 6}, 1e7, 2e3, 1},  {&copy, PHASE_BACKWARD, {.median = 2}, 0, 7e5, 0.1},
        {&conv, PHASE_FORWARD, {.median = 5}, 9e6, 3e3, 1},
    };
    step_total totals[OP_COUNT * PHASES];
    cr_assert_eq(bench_ops_total(ops, 5, totals), 4);
    cr_expect(totals[0].op == OP_conv2d && totals[0].phase == PHASE_FORWARD && totals[0].count == 2);
    cr_expect(totals[0].ms == 9 && totals[0].flops == 17e6 && totals[0].bytes == 4e3 && totals[0].floor_ms == 4.5);
    cr_expect(totals[1].op == OP_conv2d_dx && totals[1].ms == 6);
    cr_expect(totals[2].op == OP_copy && totals[2].phase == PHASE_BACKWARD && totals[2].bytes == 7e5);
    cr_expect(totals[3].op == OP_copy && totals[3].phase == PHASE_FORWARD && totals[3].count == 1);
    bench_ops_sort(ops, 5); /* lost: 5, 4, 1.9, 0.5, 0.1 */
    const double order[] = {6, 5, 2, 4, 1};
    for (int i = 0; i < 5; i++) cr_expect_eq(ops[i].time.median, order[i], "%d: %g", i, ops[i].time.median);
}

/* ---- as many iterations as there is time for -------------------------------------------------------------------- */

typedef struct counted {
    int iterations, calls;
    double ms;
} counted;

static ddpm_status count(void *context, int n, double *ms, double *wall_ms, err *e)
{
    counted *c = context;
    c->calls++;
    c->iterations += n;
    for (int i = 0; i < n; i++) ms[i] = c->ms++;
    *wall_ms = 0;
    return DDPM_OK;
}

static ddpm_status fails(void *context, int n, double *ms, double *wall_ms, err *e)
{
    return err_set(e, DDPM_EBACKEND, "no iteration");
}

Test(timing, warms_up_first_and_stops_when_the_time_is_over)
{
    err why = {0};
    backend *be;
    timing t;
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &be, &why));
    counted c = {0};
    OK(bench_measure(be, &(bench_limits){.warmup = 4, .rounds = 7, .seconds = 1000}, count, &c, &t, &why));
    cr_expect(c.iterations == 11 && t.n == 7 && t.min == 4 && t.max == 10, "what warmed up is not in the figures");
    c = (counted){0};
    OK(bench_measure(be, &(bench_limits){.warmup = 5, .rounds = 7, .seconds = 0}, count, &c, &t, &why));
    cr_expect(t.n == BENCH_LEAST && c.iterations == 1 + BENCH_LEAST, "no time: the least there is, %d of %d", t.n,
              c.iterations);
    c = (counted){0};
    OK(bench_measure(be, &(bench_limits){.warmup = 1, .rounds = 2, .seconds = 0}, count, &c, &t, &why));
    cr_expect_eq(t.n, 2);
    cr_expect_eq(bench_measure(be, &(bench_limits){1, 2, 1}, fails, NULL, &t, &why), DDPM_EBACKEND);
    backend_destroy(be);
}

/* ---- the process --------------------------------------------------------------------------------------------- */

Test(process, knows_its_peak_and_its_age)
{
    enum { MIB = 1 << 20, TAKEN = 64 * MIB };
    const int64_t before = process_peak_bytes();
    char *much = malloc(TAKEN), text[200];
    cr_assert_not_null(much);
    for (int i = 0; i < TAKEN; i += 4096) ((volatile char *)much)[i] = 1;
    cr_expect_geq(process_peak_bytes(), before + TAKEN / 2);
    cr_expect_gt(before, MIB);
    free(much);
    const double age = process_age_seconds(), clock = clock_seconds();
    cr_expect(age >= 0 && age < 600, "%g s: this test is younger", age);
    double later = process_age_seconds();
    while (clock_seconds() - clock < 0.05) later = process_age_seconds();
    cr_expect(later > age, "it grows older");
    machine_processor(text, sizeof text);
    cr_expect(text[0] && !strchr(text, '\n'), "%s", text);
    cr_expect_geq(machine_cache_bytes(), 0);
}
