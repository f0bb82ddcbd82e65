/* Learning rates and decays of averages, against diffusers (rates_fixture.h), and against the formulas of the papers. */
#include "kernels/rates_fixture.h"
#include "update.h"

#include <criterion/criterion.h>
#include <math.h>

static lr_rule rule(int schedule)
{
    return (lr_rule){.peak = rates_peak,
                     .schedule = schedule,
                     .warmup_steps = RATES_WARMUP,
                     .total_steps = RATES_TOTAL,
                     .num_cycles = 3,
                     .power = 1.5,
                     .end = 1e-7,
                     .pieces = 3,
                     .until = {10, 20, 100},
                     .factor = {1, 0.1, 0.01, 0.005}};
}

/* diffusers' cosine rises again after the last step, and ours stays at 0. */
Test(rates, schedules_agree_with_diffusers)
{
    for (int schedule = 0; schedule < LR_SCHEDULES; schedule++) {
        const lr_rule a = rule(schedule);
        for (int i = 0; i <= RATES_STEPS; i++) {
            const double want = schedule == LR_COSINE && i > RATES_TOTAL ? 0 : rates_lr[schedule][i];
            cr_assert_float_eq(lr_at(&a, (uint64_t)i), want, 2e-18, "schedule %d, step %d: %.17g, not %.17g", schedule,
                               i, lr_at(&a, (uint64_t)i), want);
        }
    }
}

/* Computed by hand from the formulas of diffusers.optimization, with an exponent of 2. */
Test(rates, schedules_agree_with_their_formulas)
{
    static const int at[] = {5, 11, 55, 99, 120};
    static const struct {
        int schedule;
        double lr[5];
    } wanted[] = {
        {LR_LINEAR, {5e-4, 9.88889e-4, 5e-4, 1.11111e-5, 0}},
        {LR_COSINE, {5e-4, 9.99695e-4, 5e-4, 3.04586e-7, 0}},
        {LR_COSINE_WITH_RESTARTS, {5e-4, 9.97261e-4, 5e-4, 2.73905e-6, 0}},
        {LR_POLYNOMIAL, {5e-4, 9.77903e-4, 2.50075e-4, 2.23444e-7, 1e-7}},
        {LR_PIECEWISE_CONSTANT, {1e-3, 1e-4, 1e-5, 1e-5, 5e-6}},
    };
    for (size_t k = 0; k < sizeof wanted / sizeof *wanted; k++) {
        lr_rule a = rule(wanted[k].schedule);
        a.power = 2;
        for (int i = 0; i < 5; i++)
            cr_assert_float_eq(lr_at(&a, (uint64_t)at[i]), wanted[k].lr[i], 6e-6 * wanted[k].lr[i] + 1e-15);
    }
}

Test(rates, schedules_end_well)
{
    for (int schedule = LR_LINEAR; schedule <= LR_POLYNOMIAL; schedule++) {
        lr_rule a = rule(schedule);
        a.end = schedule == LR_POLYNOMIAL ? 1e-7 : 0;
        cr_assert_eq(lr_at(&a, 1000), a.end);
        a.warmup_steps = 0;
        cr_assert_float_eq(lr_at(&a, 0), rates_peak, 1e-18);
        a.warmup_steps = RATES_TOTAL;
        cr_assert_eq(lr_at(&a, RATES_TOTAL / 2), rates_peak / 2);
        cr_assert_eq(lr_at(&a, RATES_TOTAL), a.end);
    }
}

Test(rates, as_many_pieces_as_there_is_room_for)
{
    lr_rule a = {.peak = 2, .schedule = LR_PIECEWISE_CONSTANT, .pieces = LR_PIECES};
    for (int k = 0; k < LR_PIECES; k++) a.until[k] = 10 * (k + 1), a.factor[k] = k + 1;
    a.factor[LR_PIECES] = 100;
    for (int i = 0; i < 10 * LR_PIECES; i++) cr_assert_eq(lr_at(&a, (uint64_t)i), 2 * (i / 10 + 1));
    cr_assert_eq(lr_at(&a, 10 * LR_PIECES), 200);
    a.pieces = 0;
    cr_assert_eq(lr_at(&a, 5), 2);
}

Test(rates, the_cosine_is_the_cosine)
{
    for (int i = 0; i <= 1000; i++)
        cr_assert_float_eq(cosine_decay(i / 1000.0), 0.5 * (1 + cos(M_PI * i / 1000.0)), 1e-15);
}

/* Of the C library, whose error is far below one unit in the last place. */
Test(rates, powers_are_those_of_the_c_library)
{
    for (int i = 0; i < 200000; i++) {
        const double x = exp((i - 100000) * 1e-3), near_1 = 1 + (i - 100000) * 1e-7, z = (i - 100000) * 7e-3;
        cr_assert_float_eq(log_f64(x), log(x), 4.5e-16 * fabs(log(x)), "ln %.17g", x);
        cr_assert_float_eq(log_f64(near_1), log(near_1), 4.5e-16 * fabs(log(near_1)), "ln %.17g", near_1);
        cr_assert_float_eq(exp_f64(z), exp(z), 4e-16 * exp(z), "exp %.17g", z);
        const double y = (i % 97) * 0.37 - 15;
        if (fabs(y * log(x)) < 690)
            cr_assert_float_eq(pow_f64(x, y), pow(x, y), (4 + fabs(y * log(x))) * 3e-16 * pow(x, y), "%g^%g", x, y);
    }
    cr_assert_eq(exp_f64(-1e300), 0);
    cr_assert_eq(pow_f64(1, 1e300), 1);
}

static double decay_of(const ema_rule *r, uint64_t updates, double images, double step)
{
    return ema_decay_at(r, &(ema_time){updates, images, step});
}

Test(rates, decays_agree_with_diffusers)
{
    for (int kind = EMA_WARMUP; kind <= EMA_POWER_WARMUP; kind++) {
        const ema_rule r = {
            .kind = kind, .decay = 0.9, .min_decay = 0.3, .update_after_step = 3, .inv_gamma = 2, .power = 0.6};
        for (int n = 1; n <= RATES_UPDATES; n++) {
            const double want = rates_ema[kind == EMA_POWER_WARMUP][n - 1];
            cr_assert_float_eq(decay_of(&r, (uint64_t)n, 0, 0), want, 1e-15, "kind %d, update %d", kind, n);
        }
    }
}

Test(rates, decays_agree_with_their_formulas)
{
    static const uint64_t at[] = {2, 3, 11, 1001, 100000};
    static const double off[] = {.1818182, .25, .55, .9910891, .9999};
    static const double on[] = {.4053964, .5613087, .8344400, .9943808, .9998222};
    const ema_rule constant = {.kind = EMA_CONSTANT, .decay = .9, .update_after_step = 2};
    const ema_rule warm = {.kind = EMA_WARMUP, .decay = .9999};
    const ema_rule power = {.kind = EMA_POWER_WARMUP, .decay = .9999, .inv_gamma = 1, .power = .75};
    for (int i = 0; i < 5; i++) {
        cr_assert_float_eq(decay_of(&warm, at[i], 0, 0), off[i], 6e-8);
        cr_assert_float_eq(decay_of(&power, at[i], 0, 0), on[i], 6e-8);
    }
    for (uint64_t n = 1; n < 6; n++) cr_assert_eq(decay_of(&constant, n, 0, 0), n <= 2 ? 0 : .9);
}

/* NVlabs/edm with 512 images a step: its images are those before the step. */
Test(rates, half_lives_are_those_of_edm)
{
    static const double before[] = {512, 5120, 1e6, 1e8}, want[] = {9.5367e-7, .25, .992927303, .999290469};
    ema_rule r = {.kind = EMA_HALFLIFE, .halflife = 500e3, .rampup_ratio = 0.05};
    for (int i = 0; i < 4; i++)
        cr_assert_float_eq(decay_of(&r, 1, before[i] + 512, 512), want[i], 1e-5 * want[i] * (i == 0) + 1e-9, "%d", i);
    cr_assert_eq(decay_of(&r, 1, 512, 512), 0);
    r.rampup_ratio = 0;
    cr_assert_float_eq(decay_of(&r, 1, 512, 512), .999290469, 1e-9);
}

/* NVlabs/edm2, whose images are those after the step; and the average is the weighted sum that its paper defines. */
Test(rates, power_functions_are_those_of_edm2)
{
    const double gamma[] = {16.9721986, 6.93720394}, want[] = {.150534932, .433324721};
    for (int k = 0; k < 2; k++) {
        const ema_rule r = {.kind = EMA_POWER, .gamma = gamma[k]};
        double average = 0, sum = 0, weighted = 0;
        cr_assert_float_eq(decay_of(&r, 10, 1280, 128), want[k], 1e-8);
        cr_assert_eq(decay_of(&r, 1, 128, 128), 0);
        for (int t = 1; t <= 2000; t++) {
            const double w = sin(t * 0.01), decay = decay_of(&r, (uint64_t)t, 64.0 * t, 64);
            const double share = pow(t, gamma[k] + 1) - pow(t - 1, gamma[k] + 1); /* of tau^gamma in this step */
            average = decay * average + (1 - decay) * w;
            weighted += share * w, sum += share;
        }
        cr_assert_float_eq(average, weighted / sum, 1e-12);
    }
}
