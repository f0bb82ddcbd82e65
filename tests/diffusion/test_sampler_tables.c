/* Every sampler's rows, in double, against the loop of its diffusers scheduler: make_sampler_tables.py writes the
 * cases, of which a toy network makes images here and there. */
#include "base/mem.h"
#include "diffusion/sampler_draft.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { D = 6, LINE = 16384, MOST_ROWS = 256 };
static err why; /* each test is a process of its own */

typedef struct table_case {
    int number;
    scheduler_config config;
    sampler_spec spec;
    int told; /* network evaluations */
    double t[MOST_ROWS], x[D];
} table_case;

/* ---- the toy network and the noise of make_sampler_tables.py ---- */

static void noise_of_row(int row, double *xi)
{
    for (int k = 0; k < D; k++) xi[k] = 1.4 * sin(1.7 + 2.3 * (row + 1) + 0.9 * k * (1 + (row + 1) % 5));
}

/* What a timestep says of x = al x_0 + sg eps, and of x0_hat = c_skip x + c_out F. */
static level told_level(const schedule *s, double t)
{
    const scheduler_config *c = &s->config;
    const bool cm = c->type == SCHEDULER_CLASS_CM;
    const bool edm = cm || c->type == SCHEDULER_CLASS_EDM_EULER || c->type == SCHEDULER_CLASS_EDM_DPM;
    if (c->precond == SCHEDULER_PRECOND_VE) return (level){t, 1, 2 * exp(t), 1, 2 * exp(t)};
    if (c->precond == SCHEDULER_PRECOND_VP) {
        const double tau = t / 999, sigma = sqrt(exp(19.9 / 2 * tau * tau + 0.1 * tau) - 1),
                     root = sqrt(1 + sigma * sigma);
        return (level){t, 1 / root, sigma / root, root, -sigma};
    }
    if (edm) {
        const double sigma = exp(cm ? t / 250 : t * 4), c_in = 1 / hypot(sigma, 0.5);
        const double sign = c->prediction_type == SCHEDULER_V_PREDICTION ? -1 : 1;
        return (level){t, c_in, sigma * c_in, 0.25 * c_in, sign * sigma * 0.5 * c_in};
    }
    if (c->type == SCHEDULER_CLASS_FLOW_EULER || c->use_flow_sigmas)
        return (level){t, 1 - t / 1000, t / 1000, 1, -t / 1000};
    const int low = (int)t, high = low + 1 < s->timesteps ? low + 1 : low;
    const double a = s->abar[low] > 0 ? s->abar[low] : 0x1p-24, b = s->abar[high] > 0 ? s->abar[high] : 0x1p-24;
    const double sigma = sqrt((1 - a) / a) + (t - low) * (sqrt((1 - b) / b) - sqrt((1 - a) / a));
    const double al = 1 / hypot(1, sigma), sg = sigma / hypot(1, sigma);
    switch (c->prediction_type) {
    case SCHEDULER_SAMPLE: return (level){t, al, sg, 0, 1};
    case SCHEDULER_V_PREDICTION: return (level){t, al, sg, al, -sg};
    default: return (level){t, al, sg, 1 / al, -sg / al};
    }
}

static void toy(const schedule *s, double t, const double *x, double *F, double *V)
{
    const level L = told_level(s, t);
    for (int k = 0; k < D; k++) {
        const double before = x[(k + D - 1) % D];
        const double x0 = 1.2 * tanh(1.3 * L.al * x[k] + 0.8 * sin(before + 4 * L.sg + t / 97));
        F[k] = (x0 - L.c_skip * x[k]) / L.c_out;
        V[k] = sin(3 * x[k] + t);
    }
}

/* ---- the loop ---- */

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double threshold(const scheduler_config *c, const draft_row *r, const double *x0)
{
    double sorted[D];
    for (int k = 0; k < D; k++) sorted[k] = fabs(x0[k]);
    qsort(sorted, D, sizeof *sorted, by_size);
    const double at = c->dynamic_thresholding_ratio * (D - 1);
    const int low = (int)at, high = low + 1 < D ? low + 1 : low;
    return fmin(fmax(sorted[low] + (at - low) * (sorted[high] - sorted[low]), 1), r->clip);
}

static void clip_all(const scheduler_config *c, const draft_row *r, double *x0)
{
    if (r->clip == 0) return;
    const double top = c->thresholding ? threshold(c, r, x0) : r->clip;
    for (int k = 0; k < D; k++) x0[k] = fmin(fmax(x0[k], -top), top) / (c->thresholding ? top : 1);
}

static void apply(const schedule *s, const draft_row *r, int row, double *x, double h[SAMPLER_SLOTS][D])
{
    double F[D], V[D], x0[D], xi[D], next[D];
    toy(s, r->t, x, F, V);
    noise_of_row(row, xi);
    for (int k = 0; k < D; k++) x0[k] = r->c_skip * x[k] + r->c_out * F[k];
    clip_all(&s->config, r, x0);
    for (int k = 0; k < D; k++) {
        next[k] = r->a * x[k] + r->b * x0[k] + r->e * F[k] + r->s * exp(r->v * V[k]) * xi[k];
        for (int j = 0; j < SAMPLER_SLOTS; j++)
            if (r->w[j] != 0) next[k] += r->w[j] * h[j][k];
    }
    for (int k = 0; k < D; k++) {
        if (r->slot >= 0) h[r->slot][k] = r->p * x[k] + r->q * x0[k];
        x[k] = next[k];
    }
}

static void sample(const sampler_draft *d, double *x)
{
    double h[SAMPLER_SLOTS][D];
    for (int j = 0; j < SAMPLER_SLOTS; j++)
        for (int k = 0; k < D; k++) h[j][k] = NAN; /* nothing is read before it is kept */
    noise_of_row(-1, x);
    for (int k = 0; k < D; k++) x[k] *= d->init;
    for (int i = 0; i < d->n_rows; i++) apply(d->s, &d->rows[i], i, x, h);
}

/* Largest difference, relative to the largest value; NaN is infinite. */
static double distance(const double *x, const double *want)
{
    double most = 0, scale = 0;
    for (int k = 0; k < D; k++) {
        scale = fmax(scale, fabs(want[k]));
        if (!(fabs(x[k] - want[k]) <= most)) most = isnan(x[k]) ? INFINITY : fabs(x[k] - want[k]);
    }
    return most / scale;
}

/* ---- the cases ---- */

static void take_sampler(table_case *q, const char *name)
{
    const bool karras = !strcmp(name, "edm_karras");
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        if (strcmp(sampler_name((sampler_kind)k), karras ? "edm" : name) != 0) continue;
        q->spec.kind = (sampler_kind)k;
        q->config = sampler_config((sampler_kind)k, &q->config);
        if (karras) q->config.sigmas = SCHEDULER_SIGMAS_KARRAS;
        return;
    }
    cr_assert_str_eq(name, "folder");
}

static bool next_case(FILE *file, table_case *q)
{
    static char config[LINE], spec[LINE], result[LINE];
    char name[32];
    int clipped = 0, used = 0;
    if (!fgets(config, LINE, file) || !fgets(spec, LINE, file) || !fgets(result, LINE, file)) return false;
    q->number++;
    cr_assert_eq(scheduler_config_parse(config, strlen(config), "case", &q->config, NULL, &why), DDPM_OK, "%s",
                 why.text);
    q->spec = sampler_spec_of(&q->config, 0);
    cr_assert_eq(sscanf(spec, "%31s %d %lf %lf %lf %lf %lf %d", name, &q->spec.steps, &q->spec.eta, &q->spec.churn,
                        &q->spec.churn_min, &q->spec.churn_max, &q->spec.churn_noise, &clipped),
                 8);
    q->spec.clipped_eps = clipped;
    take_sampler(q, name);
    char *at = result;
    for (q->told = 0; q->told < MOST_ROWS && sscanf(at, "%lf%n", &q->t[q->told], &used) == 1; q->told++) at += used;
    cr_assert_eq(*strchr(at, '|'), '|');
    at = strchr(at, '|') + 1;
    for (int k = 0; k < D; k++, at += used) cr_assert_eq(sscanf(at, "%lf%n", &q->x[k], &used), 1);
    return true;
}

static FILE *open_cases(void)
{
    FILE *file = fopen(DDPM_TESTS "/diffusion/sampler_tables.txt", "r");
    cr_assert_not_null(file);
    return file;
}

/* KDPM2AncestralDiscreteScheduler loses most, in a difference of squares. */
static const double TOLERANCE = 2e-9;

static void describe(const table_case *q, char *out, size_t size)
{
    (void)snprintf(out, size, "case %d (line %d): %s, %d steps", q->number, 3 * q->number - 2,
                   sampler_name(q->spec.kind), q->spec.steps);
}

static void check_case(const table_case *q, double *worst)
{
    char what[120];
    schedule *s = NULL;
    sampler_draft d;
    double x[D];
    describe(q, what, sizeof what);
    cr_assert_eq(schedule_create(&q->config, &s, &why), DDPM_OK, "%s: %s", what, why.text);
    if (draft_create(&d, s, &q->spec, &why) != DDPM_OK) {
        cr_expect_fail("%s: %s", what, why.text);
    } else {
        cr_expect_eq(d.n_rows, q->told, "%s: %d rows, not %d", what, d.n_rows, q->told);
        for (int i = 0; i < d.n_rows && i < q->told; i++)
            cr_expect(fabs(d.rows[i].t - q->t[i]) <= 1e-6 * fmax(1, fabs(q->t[i])), "%s: row %d asks at %.9g, not %.9g",
                      what, i, d.rows[i].t, q->t[i]);
        sample(&d, x);
        const double error = distance(x, q->x);
        cr_expect(error <= TOLERANCE, "%s: off by %.2e", what, error);
        *worst = fmax(*worst, error);
    }
    draft_destroy(&d);
    schedule_destroy(s);
}

Test(sampler_tables, every_sampler_does_what_diffusers_does)
{
    static table_case q;
    double worst[SAMPLER_KINDS] = {0};
    int count[SAMPLER_KINDS] = {0};
    FILE *file = open_cases();
    while (next_case(file, &q)) {
        check_case(&q, &worst[q.spec.kind]);
        count[q.spec.kind]++;
    }
    (void)fclose(file);
    for (int k = 0; k < SAMPLER_KINDS; k++) {
        cr_log_info("%s: %d cases, off by %.1e", sampler_name((sampler_kind)k), count[k], worst[k]);
        cr_expect(count[k] > 0, "%s has no case", sampler_name((sampler_kind)k));
    }
}

/* ---- the test can fail ---- */

enum { COEFFICIENTS = 8 + SAMPLER_SLOTS };

static double *coefficient(draft_row *r, int k)
{
    double *const all[] = {&r->c_skip, &r->c_out, &r->a, &r->b, &r->e, &r->s, &r->p, &r->q};
    return k < 8 ? all[k] : &r->w[k - 8];
}

/* The coefficient, in all rows, a ten-thousandth larger; false if none is of any size. */
static bool mutate(sampler_draft *d, int k)
{
    bool used = false;
    for (int i = 0; i < d->n_rows; i++) {
        double *c = coefficient(&d->rows[i], k);
        used = used || fabs(*c) > 1e-3;
        *c *= 1 + 1e-4;
    }
    return used;
}

typedef struct count {
    int cases, noticed;
} count;

static void try_mutants(const table_case *q, count found[COEFFICIENTS])
{
    schedule *s = NULL;
    double x[D];
    cr_assert_eq(schedule_create(&q->config, &s, &why), DDPM_OK, "%s", why.text);
    for (int k = 0; k < COEFFICIENTS; k++) {
        sampler_draft d;
        cr_assert_eq(draft_create(&d, s, &q->spec, &why), DDPM_OK, "case %d: %s", q->number, why.text);
        if (mutate(&d, k)) {
            sample(&d, x);
            found[k].cases++;
            found[k].noticed += distance(x, q->x) > TOLERANCE;
        }
        draft_destroy(&d);
    }
    schedule_destroy(s);
}

/* In nearly all cases, that is: after large sigmas the toy network is at its bounds and forgets where x was. */
Test(sampler_tables, a_wrong_coefficient_is_noticed)
{
    static count found[SAMPLER_KINDS][COEFFICIENTS];
    static table_case q;
    FILE *file = open_cases();
    while (next_case(file, &q))
        if (q.spec.steps <= 10) try_mutants(&q, found[q.spec.kind]);
    (void)fclose(file);
    for (int i = 0; i < SAMPLER_KINDS; i++)
        for (int k = 0; k < COEFFICIENTS; k++) {
            const count *n = &found[i][k];
            cr_expect(2 * n->noticed >= n->cases, "%s: in %d of %d cases coefficient %d may be wrong",
                      sampler_name((sampler_kind)i), n->cases - n->noticed, n->cases, k);
        }
}
