/* Betas, alpha-bars, timesteps and variances against the formulas in double and diffusers' own tables. */
#include "core/mem.h"
#include "diffusion/schedule.h"
#include "support/golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static err why; /* each test is a process of its own */

static schedule *new_schedule(scheduler_betas betas, scheduler_spacing spacing)
{
    scheduler_config c = scheduler_config_default();
    schedule *s = NULL;
    c.beta_schedule = betas;
    c.timestep_spacing = spacing;
    cr_assert_eq(schedule_create(&c, &s, &why), DDPM_OK, "%s", why.text);
    return s;
}

static void expect_near(const double *ours, const double *theirs, int64_t n, double tolerance, const char *what)
{
    double worst = 0;
    for (int64_t i = 0; i < n; i++) worst = fmax(worst, fabs(ours[i] - theirs[i]) / fabs(theirs[i]));
    cr_expect(worst <= tolerance, "%s: off by %.2e", what, worst);
}

static void check_table(const safetensors *st, const char *name, const double *ours, double tolerance)
{
    int64_t n = 0;
    double *theirs;
    if (golden_find(st, name)->dtype == SAFETENSORS_F64) {
        theirs = golden_f64(st, name, &n);
    } else {
        float *f = golden_f32(st, name, &n);
        cr_assert_eq(mem_array(&theirs, (size_t)n, sizeof *theirs, "test", &why), DDPM_OK);
        for (int64_t i = 0; i < n; i++) theirs[i] = (double)f[i];
        mem_free(f);
    }
    cr_assert_eq(n, 1000);
    expect_near(ours, theirs, n, tolerance, name);
    mem_free(theirs);
}

Test(schedule, betas_are_those_of_the_formulas_and_of_diffusers)
{
    static const char *const names[] = {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"};
    safetensors *st = golden_open("schedule.safetensors");
    for (int i = 0; i < 4; i++) {
        schedule *s = new_schedule((scheduler_betas)i, SCHEDULER_LEADING);
        char name[80];
        cr_expect_str_eq(scheduler_betas_name((scheduler_betas)i), names[i]);
        (void)snprintf(name, sizeof name, "betas.%s", names[i]);
        check_table(st, name, s->beta, 1e-12);
        (void)snprintf(name, sizeof name, "alphas_cumprod.%s", names[i]);
        check_table(st, name, s->abar, 1e-11);
        (void)snprintf(name, sizeof name, "diffusers.betas.%s", names[i]);
        check_table(st, name, s->beta, 1e-3); /* 1 - cos / cos in float, near 1 */
        (void)snprintf(name, sizeof name, "diffusers.alphas_cumprod.%s", names[i]);
        check_table(st, name, s->abar, 1e-4);
        schedule_destroy(s);
    }
    safetensors_close(st);
}

Test(schedule, timesteps_are_diffusers)
{
    static const int counts[] = {1, 7, 50, 250, 1000};
    safetensors *st = golden_open("schedule.safetensors");
    for (int spacing = 0; spacing < 3; spacing++) {
        schedule *s = new_schedule(SCHEDULER_LINEAR, (scheduler_spacing)spacing);
        for (int k = 0; k < 5; k++) {
            char name[80];
            int ours[1000];
            int64_t n = 0;
            (void)snprintf(name, sizeof name, "timesteps.%s.%d", scheduler_spacing_name((scheduler_spacing)spacing),
                           counts[k]);
            int64_t *theirs = golden_i64(st, name, &n);
            cr_assert_eq(n, counts[k]);
            cr_assert_eq(schedule_respace(s, counts[k], ours, &why), DDPM_OK, "%s", why.text);
            for (int i = 0; i < counts[k]; i++) cr_expect_eq(ours[i], theirs[i], "%s at %d: %d", name, i, ours[i]);
            mem_free(theirs);
        }
        schedule_destroy(s);
    }
    safetensors_close(st);
}

Test(schedule, variances_are_those_of_the_formulas_and_of_diffusers)
{
    static const char *const runs[] = {"leading.50", "leading.1000", "trailing.50", "trailing.1000"};
    safetensors *st = golden_open("schedule.safetensors");
    schedule *s = new_schedule(SCHEDULER_LINEAR, SCHEDULER_LEADING);
    for (int i = 0; i < 4; i++) {
        char name[5][80];
        static const char *const parts[] = {"t", "previous", "fixed_small", "fixed_large"};
        for (int k = 0; k < 4; k++) (void)snprintf(name[k], sizeof name[k], "variance.%s.%s", runs[i], parts[k]);
        (void)snprintf(name[4], sizeof name[4], "diffusers.variance.%s.fixed_small", runs[i]);
        int64_t n = 0, *t = golden_i64(st, name[0], &n), *previous = golden_i64(st, name[1], NULL);
        double *small = golden_f64(st, name[2], NULL), *large = golden_f64(st, name[3], NULL);
        float *theirs = golden_f32(st, name[4], NULL);
        for (int k = 0; k < n; k++) {
            const posterior q = schedule_posterior(s, (int)t[k], (int)previous[k]);
            cr_expect_float_eq(q.variance, small[k], 1e-11 * small[k] + 1e-20, "%s at %d", name[2], k);
            cr_expect_float_eq(q.beta, large[k], 1e-11 * large[k], "%s at %d", name[3], k);
            cr_expect_float_eq(fmax(q.variance, 1e-20), (double)theirs[k], 1e-3 * (double)theirs[k], "%s at %d",
                               name[4], k);
        }
        mem_free(t);
        mem_free(previous);
        mem_free(small);
        mem_free(large);
        mem_free(theirs);
    }
    schedule_destroy(s);
    safetensors_close(st);
}

/* Eq. 7 by Bayes: q(x_p | x_t, x_0) is proportional to q(x_t | x_p) q(x_p | x_0), all Gaussian. */
Test(schedule, posterior_follows_from_bayes)
{
    schedule *s = new_schedule(SCHEDULER_LINEAR, SCHEDULER_LEADING);
    static const int steps[][2] = {{1, 0}, {500, 499}, {999, 998}, {980, 960}, {999, 0}, {20, 3}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const int t = steps[i][0], prev = steps[i][1];
        const double alpha = s->abar[t] / s->abar[prev], beta = 1 - alpha;
        const double precision = alpha / beta + 1 / (1 - s->abar[prev]);
        const posterior q = schedule_posterior(s, t, prev);
        cr_expect_float_eq(q.variance * precision, 1, 1e-9);
        cr_expect_float_eq(q.x_weight * precision * beta / sqrt(alpha), 1, 1e-9);
        cr_expect_float_eq(q.x0_weight * precision * (1 - s->abar[prev]) / sqrt(s->abar[prev]), 1, 1e-9);
    }
    const posterior last = schedule_posterior(s, 0, -1);
    cr_expect(last.variance == 0 && last.x_weight == 0);
    cr_expect_float_eq(last.x0_weight, 1, 1e-15);
    schedule_destroy(s);
}

static void expect_bad(const scheduler_config *c, const char *text)
{
    schedule *s = NULL;
    cr_expect_eq(schedule_create(c, &s, &why), DDPM_EINVAL);
    cr_expect_null(s);
    cr_expect_str_eq(why.text, text);
}

Test(schedule, impossible_ones_are_refused)
{
    scheduler_config c = scheduler_config_default();
    c.beta_end = 1;
    expect_bad(&c, "beta_start 0.0001, beta_end 1: beta of timestep 999 is 1, not in (0, 1)");
    c.beta_start = 0;
    expect_bad(&c, "beta_start 0, beta_end 1: beta of timestep 0 is 0, not in (0, 1)");
    c.beta_start = NAN;
    expect_bad(&c, "beta_start nan, beta_end 1: beta of timestep 0 is nan, not in (0, 1)");
    c.num_train_timesteps = 0;
    expect_bad(&c, "num_train_timesteps 0 is not in [1, 1000000]");
    schedule_destroy(NULL);
}

Test(schedule, impossible_respacings_are_refused)
{
    int t[1000];
    scheduler_config c = scheduler_config_default();
    schedule *s = NULL;
    c.steps_offset = 20;
    cr_assert_eq(schedule_create(&c, &s, &why), DDPM_OK, "%s", why.text);
    cr_expect_eq(schedule_respace(s, 0, t, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "num_inference_steps 0 is not in [1, 1000]");
    cr_expect_eq(schedule_respace(s, 1001, t, &why), DDPM_EINVAL);
    cr_expect_eq(schedule_respace(s, 50, t, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "steps_offset 20: timestep 1000 of 1000");
    cr_expect_eq(schedule_respace(s, 40, t, &why), DDPM_OK);
    cr_expect(t[0] == 39 * 25 + 20 && t[39] == 20);
    schedule_destroy(s);
}
