/* Objectives and sampler tables without a network: for data x_0 ~ N(m, s^2) the best prediction is an
 * affine map of x_t, so every x on the way is Gaussian and its law is known. */
#include "base/mem.h"
#include "diffusion/objective.h"
#include "diffusion/sampler.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { T = 1000, PREDICTIONS = 5 };
static err why; /* each test is a process of its own */

static ddpm_status create_ddpm(const schedule *s, int steps, sampler_table **table)
{
    const sampler_spec spec = {.kind = SAMPLER_DDPM, .steps = steps};
    return sampler_create(s, &spec, table, &why);
}

static schedule *new_schedule(const scheduler_config *c)
{
    schedule *s = NULL;
    cr_assert_eq(schedule_create(c, &s, &why), DDPM_OK, "%s", why.text);
    return s;
}

/* target = of_x0 x_0 + of_eps eps, from the papers */
static void target_of(const schedule *s, int t, double *of_x0, double *of_eps)
{
    const double abar = s->abar[t], before = t ? s->abar[t - 1] : 1, beta = 1 - abar / before;
    switch (s->config.prediction_type) {
    case SCHEDULER_EPSILON: *of_x0 = 0, *of_eps = 1; return;
    case SCHEDULER_SAMPLE: *of_x0 = 1, *of_eps = 0; return;
    case SCHEDULER_V_PREDICTION: *of_x0 = -sqrt(1 - abar), *of_eps = sqrt(abar); return;
    case SCHEDULER_FLOW: *of_x0 = -1, *of_eps = 1; return;
    case SCHEDULER_MU: break;
    }
    /* Ho et al. 2020, eq. 7, with x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps */
    const double xt = sqrt(1 - beta) * (1 - before) / (1 - abar);
    *of_x0 = sqrt(before) * beta / (1 - abar) + xt * sqrt(abar);
    *of_eps = xt * sqrt(1 - abar);
}

Test(objective, table_holds_the_papers_targets)
{
    scheduler_config c = scheduler_config_default();
    for (int p = 0; p < PREDICTIONS; p++) {
        c.prediction_type = (scheduler_prediction)p;
        schedule *s = new_schedule(&c);
        static float table[T * TABLE_COLUMNS];
        const objective plain = objective_default();
        objective_fill_table(s, &plain, table);
        for (int t = 0; t < T; t++) {
            double want[TABLE_COLUMNS] = {
                [TABLE_WEIGHT] = 1, [TABLE_TIME] = t, [TABLE_HUBER] = 0.1, [TABLE_LEVEL] = floor(8.0 * t / T)};
            want[TABLE_SIGNAL] = sqrt(s->abar[t]), want[TABLE_NOISE] = sqrt(1 - s->abar[t]);
            target_of(s, t, &want[TABLE_TARGET_X0], &want[TABLE_TARGET_EPS]);
            for (int k = 0; k < TABLE_COLUMNS; k++)
                cr_assert_float_eq((double)table[t * TABLE_COLUMNS + k], want[k], 1e-7, "%s, t %d, column %d",
                                   scheduler_prediction_name(c.prediction_type), t, k);
        }
        schedule_destroy(s);
    }
}

Test(objective, the_way_back_finds_the_image)
{
    scheduler_config c = scheduler_config_default();
    const double x0 = 0.7, eps = -1.3;
    for (int p = 0; p < PREDICTIONS; p++) {
        c.prediction_type = (scheduler_prediction)p;
        schedule *s = new_schedule(&c);
        for (int t = 0; t < T; t++) {
            double of_x0 = 0, of_eps = 0;
            target_of(s, t, &of_x0, &of_eps);
            const double xt = sqrt(s->abar[t]) * x0 + sqrt(1 - s->abar[t]) * eps;
            const objective_inverse back = objective_to_x0(s, t);
            cr_assert_float_eq(back.c_skip * xt + back.c_out * (of_x0 * x0 + of_eps * eps), x0, 1e-9, "%s, t %d",
                               scheduler_prediction_name(c.prediction_type), t);
        }
        schedule_destroy(s);
    }
}

/* ---- the law of a chain ---- */

typedef struct gaussian {
    double mean, variance;
} gaussian;

/* The best prediction of the target for data of law `data`, as gain x_t + offset. */
static void best_prediction(const schedule *s, int t, gaussian data, double *gain, double *offset)
{
    const double signal = sqrt(s->abar[t]), noise2 = 1 - s->abar[t];
    const double total = signal * signal * data.variance + noise2;
    double of_x0 = 0, of_eps = 0;
    target_of(s, t, &of_x0, &of_eps);
    /* E[x_0 | x_t] and E[eps | x_t] */
    const double x0_gain = signal * data.variance / total, x0_offset = data.mean * noise2 / total;
    const double eps_gain = sqrt(noise2) / total, eps_offset = -eps_gain * signal * data.mean;
    *gain = of_x0 * x0_gain + of_eps * eps_gain;
    *offset = of_x0 * x0_offset + of_eps * eps_offset;
}

/* The rows applied to the law of x, from N(0, 1); each law into laws[n] where asked for. */
static gaussian run_chain(const scheduler_config *c, int steps, gaussian data, gaussian *laws)
{
    schedule *s = new_schedule(c);
    sampler_table *table = NULL;
    gaussian x = {0, 1};
    cr_assert_eq(create_ddpm(s, steps, &table), DDPM_OK, "%s", why.text);
    for (int i = 0; i < table->n; i++) {
        const sampler_row *r = &table->rows[i];
        double gain = 0, offset = 0;
        cr_assert(r->e == 0 && r->slot == -1 && r->clip == 0 && r->v == 0);
        best_prediction(s, (int)r->t, data, &gain, &offset);
        const double a = (double)r->a, b = (double)r->b, out = (double)r->c_out;
        const double slope = a + b * ((double)r->c_skip + out * gain);
        x.mean = slope * x.mean + b * out * offset;
        x.variance = slope * slope * x.variance + (double)r->s * (double)r->s;
        if (laws) laws[i] = x;
    }
    sampler_destroy(table);
    schedule_destroy(s);
    return x;
}

static scheduler_config unclipped(scheduler_prediction p, scheduler_variance v)
{
    scheduler_config c = scheduler_config_default();
    c.prediction_type = p, c.variance_type = v, c.clip_sample = false;
    return c;
}

/* N(0, 1) data stays N(0, 1) at every t, and the true reverse step has variance beta: fixed_large is exact. */
Test(sampler, fixed_large_is_exact_for_unit_gaussian_data)
{
    static gaussian laws[T];
    static const int steps[] = {1000, 50, 7};
    for (int p = 0; p < PREDICTIONS; p++)
        for (int k = 0; k < 3; k++) {
            const scheduler_config c = unclipped((scheduler_prediction)p, SCHEDULER_FIXED_LARGE);
            run_chain(&c, steps[k], (gaussian){0, 1}, laws);
            for (int i = 0; i + 1 < steps[k]; i++)
                cr_assert(fabs(laws[i].variance - 1) < 1e-4, "%s, %d steps: variance %.6f after row %d",
                          scheduler_prediction_name(c.prediction_type), steps[k], laws[i].variance, i);
        }
}

/* A single image: the true reverse step is the posterior given it, so fixed_small is exact. */
Test(sampler, fixed_small_is_exact_for_one_image)
{
    static gaussian laws[T];
    static int t[T];
    static const int steps[] = {1000, 50};
    for (int p = 0; p < PREDICTIONS; p++)
        for (int k = 0; k < 2; k++) {
            const scheduler_config c = unclipped((scheduler_prediction)p, SCHEDULER_FIXED_SMALL);
            const gaussian image = {0.6, 0}, end = run_chain(&c, steps[k], image, laws);
            schedule *s = new_schedule(&c);
            cr_assert_eq(schedule_respace(s, steps[k], t, &why), DDPM_OK);
            for (int i = 0; i + 1 < steps[k]; i++) {
                const double abar = s->abar[t[i + 1]];
                cr_assert(fabs(laws[i].mean - sqrt(abar) * image.mean) < 0.01, "row %d: mean %.6f", i, laws[i].mean);
                cr_assert(fabs(laws[i].variance / (1 - abar) - 1) < 2e-3, "row %d: variance %.6g for %.6g", i,
                          laws[i].variance, 1 - abar);
            }
            cr_expect(fabs(end.mean - 0.6) < 1e-6 && end.variance < 1e-9, "%s: N(%.9f, %.3g)",
                      scheduler_prediction_name(c.prediction_type), end.mean, end.variance);
            schedule_destroy(s);
        }
}

/* In between neither variance is exact, but a thousand small steps come close (Ho et al. 2020, 3.2). */
Test(sampler, a_thousand_steps_end_near_the_data)
{
    const gaussian data = {0.3, 0.25};
    for (int v = 0; v < 2; v++)
        for (int p = 0; p < PREDICTIONS; p++) {
            const scheduler_config c = unclipped((scheduler_prediction)p, (scheduler_variance)v);
            const gaussian end = run_chain(&c, 0, data, NULL);
            cr_log_info("%s %s: N(%.5f, %.5f)", scheduler_variance_name(c.variance_type),
                        scheduler_prediction_name(c.prediction_type), end.mean, end.variance);
            cr_expect(fabs(end.mean - data.mean) < 0.003, "mean %.5f", end.mean);
            cr_expect(fabs(end.variance / data.variance - 1) < 0.03, "variance %.5f", end.variance);
            cr_expect(v == SCHEDULER_FIXED_LARGE ? end.variance > 0.99 * data.variance : end.variance < data.variance);
        }
}

Test(sampler, every_objective_gives_the_same_chain)
{
    static gaussian first[T], other[T];
    const gaussian data = {-0.4, 0.09};
    for (int spacing = 0; spacing < 3; spacing++)
        for (int v = 0; v < 2; v++)
            for (int p = 0; p < PREDICTIONS; p++) {
                scheduler_config c = unclipped((scheduler_prediction)p, (scheduler_variance)v);
                const int steps = spacing == 0 ? 1000 : 37;
                c.timestep_spacing = (scheduler_spacing)spacing;
                run_chain(&c, steps, data, p == 0 ? first : other);
                for (int i = 0; i < steps && p > 0; i++)
                    cr_assert(fabs(other[i].mean - first[i].mean) < 2e-5 &&
                                  fabs(other[i].variance / first[i].variance - 1) < 1e-4,
                              "%s, row %d: N(%.7f, %.7f), not N(%.7f, %.7f)",
                              scheduler_prediction_name(c.prediction_type), i, other[i].mean, other[i].variance,
                              first[i].mean, first[i].variance);
            }
}

/* ---- single rows ---- */

Test(sampler, rows_end_and_clip_as_diffusers_does)
{
    scheduler_config c = scheduler_config_default();
    c.clip_sample_range = 1.5;
    c.variance_type = SCHEDULER_FIXED_LARGE;
    for (int spacing = 0; spacing < 3; spacing++) {
        c.timestep_spacing = (scheduler_spacing)spacing;
        schedule *s = new_schedule(&c);
        sampler_table *table = NULL;
        cr_assert_eq(create_ddpm(s, 50, &table), DDPM_OK, "%s", why.text);
        const sampler_row *last = &table->rows[49];
        cr_expect_eq(table->n, 50);
        for (int i = 0; i < 50; i++) cr_expect_eq(table->rows[i].clip, 1.5f);
        /* to the image itself: x_0 alone, without the noise that diffusers adds where t is not 0 */
        cr_expect(last->a == 0 && fabsf(last->b - 1) < 1e-6f && last->s == 0);
        cr_expect_eq(last->t, spacing == SCHEDULER_TRAILING ? 19 : 0);
        sampler_destroy(table);
        schedule_destroy(s);
    }
}

Test(sampler, too_many_steps_are_refused)
{
    const scheduler_config c = scheduler_config_default();
    schedule *s = new_schedule(&c);
    sampler_table *table = NULL;
    static const int bad[] = {-1, 1001};
    for (int i = 0; i < 2; i++) {
        cr_expect_eq(create_ddpm(s, bad[i], &table), DDPM_EINVAL);
        cr_expect_null(table);
    }
    cr_expect_str_eq(why.text, "num_inference_steps 1001 is not in [1, 1000]");
    cr_expect_eq(create_ddpm(s, 0, &table), DDPM_OK);
    cr_expect_eq(table->n, 1000);
    sampler_destroy(table);
    sampler_destroy(NULL);
    schedule_destroy(s);
}
