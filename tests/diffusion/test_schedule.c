/* Betas, alpha-bars, timesteps and variances against the formulas in double and diffusers' own tables. */
#include "base/mem.h"
#include "diffusion/sampler.h"
#include "diffusion/schedule.h"
#include "support/golden.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

static err why; /* each test is a process of its own */

static ddpm_status create_ddpm(const schedule *s, int steps, sampler_table **table)
{
    const sampler_spec spec = {.kind = SAMPLER_DDPM, .steps = steps};
    return sampler_create(s, &spec, table, &why);
}

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

static uint32_t checksum_of(scheduler_spacing spacing, int T, int *lists)
{
    scheduler_config c = scheduler_config_default();
    schedule *s = NULL;
    int *t = NULL;
    uLong crc = 0;
    c.num_train_timesteps = T;
    c.timestep_spacing = spacing;
    cr_assert_eq(schedule_create(&c, &s, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(mem_array(&t, (size_t)T, sizeof *t, "test", &why), DDPM_OK);
    *lists = 0;
    for (int n = 1; n <= T; n++) {
        cr_assert_eq(schedule_respace(s, n, t, &why), DDPM_OK, "%s", why.text);
        for (int i = 0; i < n; i++) cr_assert(t[i] >= 0 && t[i] < T && (i == 0 || t[i] < t[i - 1]), "%d of %d", i, n);
        if (spacing == SCHEDULER_TRAILING && (int)ceil(T / ((double)T / n)) != n) continue; /* numpy has n + 1 */
        crc = crc32(crc, (const Bytef *)t, (uInt)((size_t)n * sizeof *t));
        ++*lists;
    }
    mem_free(t);
    schedule_destroy(s);
    return (uint32_t)crc;
}

/* faults F15: every number of steps, against numpy (make_timesteps.py) */
Test(schedule, timesteps_are_diffusers_for_every_number_of_steps)
{
    FILE *file = fopen(DDPM_TESTS "/diffusion/timesteps.txt", "r");
    char spacing[16];
    int T, want_lists, lines = 0;
    unsigned want;
    cr_assert_not_null(file);
    for (; fscanf(file, "%15s %d %d %x", spacing, &T, &want_lists, &want) == 4; lines++) {
        int lists, k = 0;
        while (k < 3 && strcmp(spacing, scheduler_spacing_name((scheduler_spacing)k)) != 0) k++;
        const uint32_t sum = checksum_of((scheduler_spacing)k, T, &lists);
        cr_expect_eq(lists, want_lists, "%s of %d: %d lists", spacing, T, lists);
        cr_expect_eq(sum, want, "%s of %d: %08x", spacing, T, sum);
    }
    cr_expect_eq(lines, 24);
    (void)fclose(file);
}

/* faults F15: two counts where a half was rounded the other way */
Test(schedule, halves_go_where_numpy_puts_them)
{
    int t[53];
    schedule *s = new_schedule(SCHEDULER_LINEAR, SCHEDULER_LINSPACE);
    cr_assert_eq(schedule_respace(s, 53, t, &why), DDPM_OK);
    cr_expect(t[25] == 519 && t[26] == 499 && t[27] == 480, "%d %d %d", t[25], t[26], t[27]);
    schedule_destroy(s);
    s = new_schedule(SCHEDULER_LINEAR, SCHEDULER_TRAILING);
    cr_assert_eq(schedule_respace(s, 48, t, &why), DDPM_OK);
    cr_expect(t[3] == 936 && t[15] == 686, "%d %d", t[3], t[15]);
    schedule_destroy(s);
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

/* faults B5: black pictures from values within the options' ranges */
Test(schedule, alpha_bars_that_nothing_can_be_computed_with_are_refused)
{
    scheduler_config c = scheduler_config_default();
    c.beta_end = 0.999;
    for (int prediction = 0; prediction < 4; prediction++) {
        c.prediction_type = (scheduler_prediction)prediction;
        for (int betas = 0; betas < 4; betas++) {
            schedule *s = NULL;
            c.beta_schedule = (scheduler_betas)betas;
            const bool cosine = betas == SCHEDULER_SQUAREDCOS_CAP_V2; /* which does not look at beta_end */
            cr_expect_eq(schedule_create(&c, &s, &why), cosine ? DDPM_OK : DDPM_EINVAL, "betas %d", betas);
            cr_expect(cosine || strstr(why.text, "lower beta_end or num_train_timesteps"), "%s", why.text);
            schedule_destroy(s);
        }
    }
    c = scheduler_config_default();
    c.beta_end = 0.999;
    expect_bad(&c, "beta_start 0.0001, beta_end 0.999: at timestep 477 of 1000 alpha-bar is 8e-61, below 1e-60, "
                   "which is too small to compute with; lower beta_end or num_train_timesteps");
    c.beta_start = c.beta_end = 1e-17;
    expect_bad(&c, "beta_start 1e-17, beta_end 1e-17: beta of timestep 0 is 1e-17, too small to change an image; raise "
                   "beta_start");
}

static void expect_finite(const schedule *s, int n)
{
    sampler_table *table = NULL;
    cr_assert_eq(create_ddpm(s, n, &table), DDPM_OK, "%s", why.text);
    for (int i = 0; i < n; i++) {
        const sampler_row *r = &table->rows[i];
        cr_expect(isfinite(r->c_skip) && isfinite(r->c_out) && isfinite(r->a) && isfinite(r->b) && isfinite(r->s),
                  "row %d of %d: %g %g %g %g %g", i, n, r->c_skip, r->c_out, r->a, r->b, r->s);
    }
    sampler_destroy(table);
}

/* faults B5: what is not refused can be sampled from, at the ends of every range */
Test(schedule, every_row_of_a_schedule_that_is_taken_is_finite)
{
    static const int lengths[] = {1, 2, 10, 1000};
    static const double ends[] = {1e-12, 1e-4, 0.02, 0.2, 0.9, 0.999};
    int taken = 0;
    for (int k = 0; k < 4 * 4 * 2 * 4 * 6 * 6; k++) {
        scheduler_config c = scheduler_config_default();
        schedule *s = NULL;
        c.beta_start = ends[k % 6], c.beta_end = ends[k / 6 % 6];
        c.num_train_timesteps = lengths[k / 36 % 4];
        c.beta_schedule = (scheduler_betas)(k / 144 % 4);
        c.prediction_type = (scheduler_prediction)(k / 576 % 4);
        c.variance_type = (scheduler_variance)(k / 2304);
        if (schedule_create(&c, &s, &why) != DDPM_OK) continue;
        taken++;
        expect_finite(s, s->timesteps);
        expect_finite(s, 1);
        schedule_destroy(s);
    }
    cr_expect_gt(taken, 2000);
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
    cr_expect_str_eq(why.text, "steps_offset 20: timestep 1000 is not below num_train_timesteps = 1000");
    cr_expect_eq(schedule_respace(s, 40, t, &why), DDPM_OK);
    cr_expect(t[0] == 39 * 25 + 20 && t[39] == 20);
    schedule_destroy(s);
}

/* Strictly decreasing timesteps of the range, whatever the number of steps: also where the logarithm of the SNR falls so
 * steeply that all of the steps would lie at a few timesteps. */
Test(schedule, own_spacings_use_a_timestep_once)
{
    static int t[1000];
    for (int spacing = SCHEDULER_QUADRATIC; spacing <= SCHEDULER_LOGSNR; spacing++)
        for (int betas = 0; betas < 3; betas++)
            for (int n = 1; n <= 1000; n += n < 30 ? 1 : 97) {
                scheduler_config c = scheduler_config_default();
                schedule *s = NULL;
                c.timestep_spacing = (scheduler_spacing)spacing;
                c.beta_schedule = betas == 1 ? SCHEDULER_SQUAREDCOS_CAP_V2 : SCHEDULER_LINEAR;
                c.rescale_betas_zero_snr = betas == 2;
                c.prediction_type = SCHEDULER_V_PREDICTION;
                cr_assert_eq(schedule_create(&c, &s, &why), DDPM_OK, "%s", why.text);
                cr_assert_eq(schedule_respace(s, n, t, &why), DDPM_OK, "%s", why.text);
                cr_assert(t[0] < 1000 && t[n - 1] >= 0);
                for (int i = 1; i < n; i++)
                    cr_assert(t[i] < t[i - 1], "%s, %d steps: %d after %d", scheduler_spacing_name(c.timestep_spacing),
                              n, t[i], t[i - 1]);
                schedule_destroy(s);
            }
}
