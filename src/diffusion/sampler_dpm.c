/* sampler_dpm.c - DPM-Solver and DPM-Solver++, multistep and singlestep, of the ODE and of the SDE.
 *
 * Lu et al. 2022 (arXiv:2206.00927) and 2022 (arXiv:2211.01095): the exact solution of a step is
 *   x' = a x + k0 m + k1 h m' + k2 h^2 m'' + ... + s xi,   m = x0_hat (++) or eps, derivatives by lambda, h its step,
 * and an order is how many derivatives are estimated, from earlier rows or from rows within the step. */
#include "base/mem.h"
#include "diffusion/sampler_multistep.h"

typedef struct dpm_terms {
    double h, a, k0, k1, k2, s;
} dpm_terms;

/* phi_n(z) = sum_k z^k / (k + n)!: exp(z), (exp(z) - 1) / z, ... */
static double phi(int n, double z)
{
    double sum = 0, term = 1;
    if (fabs(z) > 1) return n == 1 ? expm1(z) / z : (phi(n - 1, z) - (n == 3 ? 0.5 : 1)) / z;
    for (int k = 1; k <= n; k++) term /= k;
    for (int k = 0; k < 25; k++, term *= z / (k + n)) sum += term;
    return sum;
}

static bool of_data(const sampler_draft *d)
{
    return d->c->algorithm_type == SCHEDULER_DPMSOLVER_PP || d->c->algorithm_type == SCHEDULER_SDE_DPMSOLVER_PP;
}

static bool is_sde(const sampler_draft *d)
{
    return d->c->algorithm_type == SCHEDULER_SDE_DPMSOLVER || d->c->algorithm_type == SCHEDULER_SDE_DPMSOLVER_PP;
}

/* The limits for a step to the image, h = infinity, are finite, but that of the SDE's noise in eps. */
static dpm_terms terms_between(sampler_draft *d, const level *L, const level *M)
{
    const bool data = of_data(d), sde = is_sde(d);
    const double h = level_lambda(M) - level_lambda(L), kept = M->sg / L->sg;
    dpm_terms q = {.h = h, .a = data ? kept : M->al / L->al};
    const double g = data ? -M->al : -M->sg * (sde ? 2 : 1), z = data ? (sde ? -2 * h : -h) : h;
    q.k0 = data ? M->al - L->al * kept : (M->sg - M->al * level_sigma(L)) * (sde ? 2 : 1);
    if (sde && data) {
        q.a = kept * exp(-h);
        q.k0 = -M->al * expm1(-2 * h);
        q.s = M->sg * sqrt(fmax(-expm1(-2 * h), 0));
    } else if (sde) {
        q.s = M->sg * sqrt(fmax(expm1(2 * h), 0));
        if (M->sg == 0) draft_fail(d, "algorithm_type sde-dpmsolver cannot end at sigma zero; use final sigma_min");
    }
    if (isinf(h)) return q;
    q.k1 = g * z * phi(2, z);
    q.k2 = g * z * phi(3, z);
    return q;
}

/* Weights of m at 0, p h and q h (n of them) for k0 m + k1 h m' + k2 h^2 m''. */
static void spread(double k0, double k1, double k2, const double *at, int n, double *c)
{
    if (n == 1) {
        c[0] = k0;
    } else if (n == 2) {
        c[1] = k1 / at[0];
        c[0] = k0 - c[1];
    } else {
        const double p = at[0], q = at[1];
        c[1] = (k1 * q - 2 * k2) / ((q - p) * p);
        c[2] = (2 * k2 - k1 * p) / ((q - p) * q);
        c[0] = k0 - c[1] - c[2];
    }
}

/* ---- multistep ---- */

static int multistep_order(const sampler_draft *d, int i)
{
    const int left = d->n - i;
    const bool falls = d->c->lower_order_final && d->n + d->spec->skip < 15;
    int order = d->c->solver_order < i + 1 ? d->c->solver_order : i + 1;
    if (left == 1 && (d->c->euler_at_final || falls || d->levels[i + 1].sg == 0)) return 1;
    if (left == 2 && falls && order > 2) order = 2;
    for (int j = 0; j < order; j++)
        if (level_lambda(&d->levels[i + 1 - j]) - level_lambda(&d->levels[i - j]) < LAMBDA_APART) return j < 1 ? 1 : j;
    return order;
}

static multistep dpm_step(sampler_draft *d, int i)
{
    const level *L = &d->levels[i];
    const int order = multistep_order(d, i);
    const bool heun = d->c->solver_type == SCHEDULER_HEUN;
    dpm_terms q = terms_between(d, L, L + 1);
    multistep step = {.a = q.a, .s = q.s};
    double at[2] = {0};
    for (int j = 1; j < order; j++) at[j - 1] = (level_lambda(L - j) - level_lambda(L)) / q.h;
    if (order == 2 && !heun) q.k1 = q.k0 / 2; /* the midpoint, not the integral: the papers' choice */
    if (order == 3 && d->spec->as_diffusers) {
        if (d->c->algorithm_type == SCHEDULER_SDE_DPMSOLVER_PP) q.k2 += -(L + 1)->al;
        q.k2 /= 2;
    }
    spread(q.k0, q.k1, q.k2, at, order, step.c);
    return step;
}

static void fill_multistep(sampler_draft *d)
{
    multistep *steps = multistep_array(d);
    for (int i = 0; i < d->n && !d->st; i++) steps[i] = dpm_step(d, i);
    if (!d->st) draft_multistep(d, steps, of_data(d));
    mem_free(steps);
}

static void check_algorithm(sampler_draft *d)
{
    if (!of_data(d) && !is_sde(d) && d->c->algorithm_type != SCHEDULER_DPMSOLVER)
        draft_fail(d, "algorithm_type is not one of dpmsolver, dpmsolver++, sde-dpmsolver, sde-dpmsolver++");
}

void fill_dpm_multistep(sampler_draft *d)
{
    check_algorithm(d);
    draft_levels_dpm(d);
    fill_multistep(d);
}

void fill_edm_dpm(sampler_draft *d)
{
    check_algorithm(d);
    draft_levels_edm(d);
    fill_multistep(d);
}

/* ---- singlestep ---- */

/* m = p x + q x0_hat at a level. */
static pair prediction(const sampler_draft *d, const level *L) { return of_data(d) ? (pair){0, 1} : level_eps(L); }

/* x_2 = a x + c[0] m + c[1] m_1, by the level between */
static dpm_terms second_order(sampler_draft *d, const level *L, double c[2])
{
    dpm_terms q = terms_between(d, L, L + 2);
    const double at = (level_lambda(L + 1) - level_lambda(L)) / q.h;
    if (d->c->solver_type != SCHEDULER_HEUN) q.k1 = q.k0 / 2;
    spread(q.k0, q.k1, 0, &at, 2, c);
    return q;
}

static void first_row(sampler_draft *d, const level *L)
{
    const dpm_terms q = terms_between(d, L, L + 1);
    const pair m = prediction(d, L);
    draft_row *r = draft_add(d, L);
    r->a = q.a + q.k0 * m.a, r->b = q.k0 * m.b, r->s = q.s;
}

/* DPM-Solver-2 and DPM-Solver++(2S): the first row keeps what the second takes of x and m. */
static void two_rows(sampler_draft *d, const level *L)
{
    const pair m = prediction(d, L), m1 = prediction(d, L + 1);
    double c[2];
    const dpm_terms q = second_order(d, L, c);
    first_row(d, L);
    draft_row *r = &d->rows[d->n_rows - 1];
    r->slot = 0, r->p = q.a + c[0] * m.a, r->q = c[0] * m.b;
    r = draft_add(d, L + 1);
    r->a = c[1] * m1.a, r->b = c[1] * m1.b, r->w[0] = 1, r->s = q.s;
}

/* DPM-Solver-3.  Slot 0 keeps m; x itself, where the step began, is taken back out of x_1, so that one entry a row is
 * enough.  Slot 1 keeps what the last row takes of x and m_1. */
static void three_rows(sampler_draft *d, const level *L)
{
    const pair m = prediction(d, L), m1 = prediction(d, L + 1), m2 = prediction(d, L + 2);
    const dpm_terms one = terms_between(d, L, L + 1), all = terms_between(d, L, L + 3);
    double c[2], f[3] = {0};
    const dpm_terms two = second_order(d, L, c);
    const double at[2] = {(level_lambda(L + 1) - level_lambda(L)) / all.h,
                          (level_lambda(L + 2) - level_lambda(L)) / all.h};
    if (d->c->solver_type == SCHEDULER_HEUN)
        spread(all.k0, all.k1, all.k2, at, 3, f);
    else
        f[2] = all.k1 / at[1], f[0] = all.k0 - f[2];
    first_row(d, L);
    draft_row *r = &d->rows[d->n_rows - 1];
    r->slot = 0, r->p = m.a, r->q = m.b;
    r = draft_add(d, L + 1);
    r->a = two.a / one.a + c[1] * m1.a, r->b = c[1] * m1.b, r->w[0] = c[0] - two.a * one.k0 / one.a;
    r->slot = 1, r->p = all.a / one.a + f[1] * m1.a, r->q = f[1] * m1.b;
    r = draft_add(d, L + 2);
    r->a = f[2] * m2.a, r->b = f[2] * m2.b, r->w[0] = f[0] - all.a * one.k0 / one.a, r->w[1] = 1;
}

/* The evaluations of the step from level i: the last ones have lower orders, so that the number of evaluations comes out
 * and the image is reached by a step of first order.  Levels that are one cannot tell a derivative. */
static int group_size(const sampler_draft *d, int i)
{
    const int left = d->n - i, order = d->c->solver_order;
    const bool to_image = d->levels[d->n].sg == 0;
    int size = order < left ? order : left;
    if (size == left && size > 1 && (size == order || to_image)) size--;
    for (int k = 0; k < size; k++)
        if (level_lambda(&d->levels[i + k + 1]) - level_lambda(&d->levels[i + k]) < LAMBDA_APART) return k > 1 ? k : 1;
    return size;
}

void fill_dpm_singlestep(sampler_draft *d)
{
    check_algorithm(d);
    if (d->c->solver_order == 3 && is_sde(d)) draft_fail(d, "the SDE has no order 3 here; use order 2, or dpmpp_3m");
    draft_levels_dpm(d);
    for (int i = 0; i < d->n && !d->st;) {
        const int size = group_size(d, i);
        (size == 3 ? three_rows : size == 2 ? two_rows : first_row)(d, &d->levels[i]);
        i += size;
    }
}
