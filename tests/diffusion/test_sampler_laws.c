/* Samplers on data of law N(m, v), where the best x0_hat is an affine map of x and the exact way back is known:
 * x = al m + sqrt(al^2 v + sg^2) z, with one z for the whole way of the deterministic samplers. */
#include "diffusion/sampler_draft.h"

#include <criterion/criterion.h>
#include <stdio.h>

static err why; /* each test is a process of its own */
static const double MEAN = 0.3, VARIANCE = 0.25;

static scheduler_config config_of(sampler_kind k)
{
    scheduler_config folder = scheduler_config_default();
    if (k == SAMPLER_EDM || k == SAMPLER_EDM_EULER) folder = scheduler_config_of(SCHEDULER_CLASS_EDM_EULER);
    if (k == SAMPLER_EDM_DPMPP) folder = scheduler_config_of(SCHEDULER_CLASS_EDM_DPM);
    if (k == SAMPLER_FLOW_EULER) folder = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    folder.clip_sample = false;
    cr_assert_eq(sampler_accepts(k, &folder, &why), DDPM_OK, "%s", why.text);
    return sampler_config(k, &folder);
}

static schedule *draft(sampler_draft *d, const scheduler_config *c, const sampler_spec *spec)
{
    schedule *s = NULL;
    cr_assert_eq(schedule_create(c, &s, &why), DDPM_OK, "%s", why.text);
    cr_assert_eq(draft_create(d, s, spec, &why), DDPM_OK, "%s", why.text);
    return s;
}

/* E[x_0 | x] at the level of a row */
static double best_x0(const draft_row *r, double x)
{
    const double total = r->al * r->al * VARIANCE + r->sg * r->sg;
    return MEAN + r->al * VARIANCE / total * (x - r->al * MEAN);
}

/* The rows from x on, `xi` being the noise of row `noisy` and 0 that of the others. */
static double run_rows(const sampler_draft *d, int rows, double x, int noisy, double xi)
{
    double h[SAMPLER_SLOTS] = {0};
    for (int i = 0; i < rows; i++) {
        const draft_row *r = &d->rows[i];
        const double x0 = best_x0(r, x), F = (x0 - r->c_skip * x) / r->c_out;
        double next = r->a * x + r->b * x0 + r->e * F + (i == noisy ? r->s * xi : 0);
        for (int j = 0; j < SAMPLER_SLOTS; j++) next += r->w[j] * h[j];
        if (r->slot >= 0) h[r->slot] = r->p * x + r->q * x0;
        x = next;
    }
    return x;
}

/* The law of the result: it is affine in x_T and each row's noise. */
static void law_of_result(const sampler_draft *d, double *mean, double *variance)
{
    const int n = d->n_rows;
    *mean = run_rows(d, n, 0, -1, 0);
    const double of_start = run_rows(d, n, d->init, -1, 0) - *mean;
    *variance = of_start * of_start;
    for (int i = 0; i < n; i++) {
        if (d->rows[i].s == 0) continue;
        const double gain = run_rows(d, n, 0, i, 1) - *mean;
        *variance += gain * gain;
    }
}

Test(sampler_laws, many_steps_end_near_the_data)
{
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        /* the best x0_hat is no consistency function, and the inverse does not end at images */
        if (k == SAMPLER_CM || k == SAMPLER_LCM || k == SAMPLER_TCD || k == SAMPLER_DDIM_INVERSE) continue;
        const scheduler_config c = config_of((sampler_kind)k);
        sampler_spec spec = sampler_spec_default((sampler_kind)k, 500);
        sampler_draft d;
        double mean = 0, variance = 0;
        if (k == SAMPLER_HEUN || k == SAMPLER_EDM) spec.churn = 40;
        schedule *s = draft(&d, &c, &spec);
        law_of_result(&d, &mean, &variance);
        cr_log_info("%s: N(%.4f, %.4f)", sampler_name((sampler_kind)k), mean, variance);
        cr_expect(fabs(mean - MEAN) < 0.01, "%s: mean %.4f", sampler_name((sampler_kind)k), mean);
        cr_expect(fabs(variance / VARIANCE - 1) < 0.04, "%s: variance %.4f", sampler_name((sampler_kind)k), variance);
        draft_destroy(&d);
        schedule_destroy(s);
    }
}

Test(sampler_laws, the_samplers_of_edm_follow_the_law_of_vp_and_ve)
{
    static const scheduler_class processes[] = {SCHEDULER_CLASS_SDE_VP, SCHEDULER_CLASS_SDE_VE};
    static const sampler_kind kinds[] = {SAMPLER_EDM, SAMPLER_EDM_EULER, SAMPLER_EDM_DPMPP};
    for (int i = 0; i < 6; i++) {
        scheduler_config folder = scheduler_config_of(processes[i / 3]);
        folder.sigma_min = 0.02, folder.sigma_max = 100;
        cr_assert_eq(sampler_accepts(kinds[i % 3], &folder, &why), DDPM_OK, "%s", why.text);
        const scheduler_config c = sampler_config(kinds[i % 3], &folder);
        sampler_spec spec = sampler_spec_default(kinds[i % 3], 500);
        sampler_draft d;
        double mean = 0, variance = 0;
        if (kinds[i % 3] == SAMPLER_EDM) spec.churn = 40;
        schedule *s = draft(&d, &c, &spec);
        law_of_result(&d, &mean, &variance);
        cr_log_info("%s: N(%.4f, %.4f)", sampler_name(kinds[i % 3]), mean, variance);
        cr_expect(fabs(mean - MEAN) < 0.01, "%s: mean %.4f", sampler_name(kinds[i % 3]), mean);
        cr_expect(fabs(variance / VARIANCE - 1) < 0.04, "%s: variance %.4f", sampler_name(kinds[i % 3]), variance);
        draft_destroy(&d);
        schedule_destroy(s);
    }
}

/* ---- orders of convergence ---- */

typedef struct order_case {
    const char *name;
    sampler_kind kind;
    int order; /* 0: the name's own */
    scheduler_solver solver;
    bool as_diffusers;
    double low, high; /* bounds of the slope: on this linear problem some gain an order */
} order_case;

/* The error of x at the level where its last row begins (k-diffusion's, whose last row goes on to the image), or ends,
 * which is the lowest sigma again. */
static double error_of(const order_case *q, int steps)
{
    scheduler_config c = config_of(q->kind);
    sampler_spec spec = sampler_spec_default(q->kind, steps);
    const bool dpm = sampler_info_of(q->kind)->max_order > 0;
    sampler_draft d;
    spec.as_diffusers = q->as_diffusers;
    if (q->order) sampler_set_order(q->kind, &c, q->order);
    if (dpm) c.solver_type = q->solver, c.final_sigmas_type = SCHEDULER_FINAL_SIGMA_MIN, c.lower_order_final = false;
    if (q->kind != SAMPLER_DDIM) c.sigmas = SCHEDULER_SIGMAS_EXPONENTIAL;
    schedule *s = draft(&d, &c, &spec);
    const draft_row *first = &d.rows[0], *last = &d.rows[d.n_rows - 1];
    const double z = 0.9, start = first->al * MEAN + sqrt(first->al * first->al * VARIANCE + first->sg * first->sg) * z;
    const double want = last->al * MEAN + sqrt(last->al * last->al * VARIANCE + last->sg * last->sg) * z;
    const double error = fabs(run_rows(&d, d.n_rows - !dpm, start, -1, 0) - want);
    draft_destroy(&d);
    schedule_destroy(s);
    return error;
}

Test(sampler_laws, errors_fall_as_the_order_says)
{
    static const order_case cases[] = {
        {"ddim", SAMPLER_DDIM, 0, 0, false, 0.85, 1.25},
        {"euler", SAMPLER_EULER, 0, 0, false, 0.9, 1.1},
        {"heun", SAMPLER_HEUN, 0, 0, false, 1.85, 2.2},
        {"dpm2", SAMPLER_DPM2, 0, 0, false, 1.85, 2.2},
        {"dpmpp_2m of order 1", SAMPLER_DPMPP_2M, 1, SCHEDULER_MIDPOINT, false, 0.9, 1.1},
        {"dpmpp_2m", SAMPLER_DPMPP_2M, 0, SCHEDULER_MIDPOINT, false, 1.85, 2.2},
        {"dpmpp_2m heun", SAMPLER_DPMPP_2M, 0, SCHEDULER_HEUN, false, 1.85, 2.2},
        {"dpmpp_2s", SAMPLER_DPMPP_2S, 0, SCHEDULER_MIDPOINT, false, 1.85, 2.2},
        {"deis of order 2", SAMPLER_DEIS, 2, SCHEDULER_LOGRHO, false, 1.85, 2.2},
        {"unipc of order 2", SAMPLER_UNIPC, 2, SCHEDULER_BH2, false, 1.85, 3.3},
        {"dpmpp_3m", SAMPLER_DPMPP_3M, 0, SCHEDULER_MIDPOINT, false, 2.8, 4.3},
        {"dpmpp_3m of diffusers", SAMPLER_DPMPP_3M, 0, SCHEDULER_MIDPOINT, true, 1.85, 2.3},
        {"dpm_3s", SAMPLER_DPM_3S, 0, SCHEDULER_MIDPOINT, false, 2.8, 3.3},
        {"dpm_3s heun", SAMPLER_DPM_3S, 0, SCHEDULER_HEUN, false, 2.8, 3.3},
        {"deis of order 3", SAMPLER_DEIS, 3, SCHEDULER_LOGRHO, false, 2.8, 4.3},
        {"unipc of order 3", SAMPLER_UNIPC, 3, SCHEDULER_BH2, false, 2.8, 4.3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const order_case *q = &cases[i];
        const double coarse = error_of(q, 61), middle = error_of(q, 121), fine = error_of(q, 241);
        const double slope = log2(coarse / fine) / 2;
        cr_log_info("%s: errors %.2e, %.2e, %.2e: order %.2f", q->name, coarse, middle, fine, slope);
        cr_expect(slope > q->low && slope < q->high, "%s: errors %.2e, %.2e, %.2e, order %.2f", q->name, coarse, middle,
                  fine, slope);
    }
}

/* The SDE's weights are exact where x0_hat is linear or quadratic in lambda: the noise apart, which is not asked for, so
 * is the step.  m = lambda^2 through three levels; the integral by Simpson's rule on a fine grid. */
static double sde_step_error(bool as_diffusers, double n)
{
    scheduler_config c = config_of(SAMPLER_DPMPP_2M_SDE);
    sampler_spec spec = sampler_spec_default(SAMPLER_DPMPP_2M_SDE, (int)n);
    sampler_draft d;
    spec.as_diffusers = as_diffusers;
    c.solver_order = 3, c.sigmas = SCHEDULER_SIGMAS_EXPONENTIAL;
    schedule *s = draft(&d, &c, &spec);
    const int i = d.n_rows / 2;
    double lambda[4], got, want = 0;
    for (int j = 0; j < 4; j++) lambda[j] = log(d.rows[i + 1 - j].al / d.rows[i + 1 - j].sg);
    const draft_row *r = &d.rows[i];
    got = r->b * lambda[1] * lambda[1];
    for (int j = 1; j <= 2; j++) got += r->w[(i - j) % 2] * lambda[1 + j] * lambda[1 + j];
    const double h = lambda[0] - lambda[1], al = d.rows[i + 1].al;
    enum { PIECES = 200 };
    for (int k = 0; k <= PIECES; k++) {
        const double u = lambda[1] + h * k / PIECES, f = 2 * al * exp(-2 * (lambda[0] - u)) * u * u;
        want += f * (k == 0 || k == PIECES ? 1 : k % 2 ? 4 : 2) * h / PIECES / 3;
    }
    draft_destroy(&d);
    schedule_destroy(s);
    return fabs(got - want);
}

Test(sampler_laws, third_order_of_the_sde_is_exact_for_parabolas)
{
    cr_expect(sde_step_error(false, 40) < 1e-10, "off by %.2e", sde_step_error(false, 40));
    cr_expect(sde_step_error(true, 40) > 1e-4, "diffusers': off by %.2e", sde_step_error(true, 40));
}

/* ---- there and back ---- */

/* eps of the best network for two narrow peaks, at +-0.6 and 0.2 wide, which knows the timestep that it is told. */
static double two_peaks(const schedule *s, double t, double x)
{
    const double peak = 0.6, width = 0.2, al = sqrt(s->abar[(int)t]), sg = sqrt(1 - s->abar[(int)t]);
    const double total = al * al * width * width + sg * sg;
    const double x0 = al * width * width / total * x + sg * sg / total * peak * tanh(al * peak * x / total);
    return (x - al * x0) / sg;
}

static double run_two_peaks(const sampler_draft *d, double x)
{
    for (int i = 0; i < d->n_rows; i++) {
        const draft_row *r = &d->rows[i];
        const double F = two_peaks(d->s, r->t, x);
        x = r->a * x + r->b * (r->c_skip * x + r->c_out * F) + r->e * F;
    }
    return x;
}

Test(sampler_laws, ddim_takes_back_what_its_inverse_did)
{
    const scheduler_config there = config_of(SAMPLER_DDIM_INVERSE), back = config_of(SAMPLER_DDIM);
    const sampler_spec inverse = sampler_spec_default(SAMPLER_DDIM_INVERSE, 1000),
                       forward = sampler_spec_default(SAMPLER_DDIM, 1000);
    sampler_draft up, down;
    schedule *s = draft(&up, &there, &inverse), *t = draft(&down, &back, &forward);
    cr_expect_float_eq(up.end.al, sqrt(s->abar[999]), 1e-12);
    for (int k = 0; k < 5; k++) {
        const double x0 = -0.9 + 0.4 * k, noise = run_two_peaks(&up, x0), again = run_two_peaks(&down, noise);
        cr_log_info("%.3f -> %.5f -> %.5f", x0, noise, again);
        cr_expect(fabs(noise - x0) > 0.05 && fabs(again - x0) < 0.005, "%.3f -> %.5f -> %.5f", x0, noise, again);
    }
    draft_destroy(&up);
    draft_destroy(&down);
    schedule_destroy(s);
    schedule_destroy(t);
}
