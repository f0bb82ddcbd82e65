/* sampler_multistep.c - linear multistep samplers: a polynomial through earlier predictions, integrated exactly. */
#include "diffusion/sampler_multistep.h"
#include "base/mem.h"

multistep *multistep_array(sampler_draft *d)
{
    multistep *steps = NULL;
    if (!d->st) d->st = mem_array(&steps, (size_t)d->n, sizeof *steps, "sampler", d->e);
    return steps;
}

static int terms_of(const multistep *step)
{
    int n = MULTISTEP_TERMS;
    while (n > 1 && step->c[n - 1] == 0) n--;
    return n;
}

void draft_multistep(sampler_draft *d, const multistep *steps, bool data)
{
    int depth = 0;
    for (int i = 0; i < d->n; i++) depth = terms_of(&steps[i]) - 1 > depth ? terms_of(&steps[i]) - 1 : depth;
    if (depth > SAMPLER_SLOTS) draft_fail(d, "it would keep %d predictions, more than %d", depth, SAMPLER_SLOTS);
    for (int i = 0; i < d->n && !d->st; i++) {
        const level *L = &d->levels[i];
        const pair m = data ? (pair){0, 1} : level_eps(L);
        draft_row *r = draft_add(d, L);
        r->a = steps[i].a + steps[i].c[0] * m.a, r->b = steps[i].c[0] * m.b, r->s = steps[i].s;
        for (int j = 1; j <= depth && j <= i; j++) r->w[(i - j) % depth] = steps[i].c[j];
        if (depth > 0) r->p = m.a, r->q = m.b, r->slot = i % depth;
    }
}

/* ---- integrals of Lagrange polynomials ---- */

enum { NODES = SAMPLER_SLOTS + 1 };

/* c[0..n-1]: coefficients of the polynomial that is 1 at u[j] and 0 at the others. */
static void lagrange(const double *u, int n, int j, double c[NODES])
{
    double scale = 1;
    int degree = 0;
    for (int k = 0; k < NODES; k++) c[k] = k == 0;
    for (int k = 0; k < n; k++) {
        if (k == j) continue;
        degree++;
        for (int m = degree; m > 0; m--) c[m] = c[m - 1] - u[k] * c[m];
        c[0] *= -u[k];
        scale *= u[j] - u[k];
    }
    for (int k = 0; k <= degree; k++) c[k] /= scale;
}

/* v[m] = integral of u^m exp(-z u) over [0, 1], z >= 0: a series for small z, by parts for the others. */
static void exponential_moments(double z, double v[NODES])
{
    for (int m = 0; m < NODES; m++) {
        double sum = 0, term = 1;
        if (z >= 2) {
            v[m] = m == 0 ? -expm1(-z) / z : (m * v[m - 1] - exp(-z)) / z;
            continue;
        }
        for (int k = 0; k < 40; k++, term *= -z / k) sum += term / (m + 1 + k);
        v[m] = sum;
    }
}

/* How many of the n levels newest, newest - 1, ... lie apart in lambda; at least 1. */
static int apart(const sampler_draft *d, int newest, int n)
{
    int k = 1;
    while (k < n &&
           fabs(level_lambda(&d->levels[newest - k + 1]) - level_lambda(&d->levels[newest - k])) > LAMBDA_APART)
        k++;
    return k;
}

/* The step from level `step` to the next, by the m at levels newest, newest - 1, ... */
typedef struct integral {
    int step, newest, nodes;
    bool data; /* m = x0_hat; otherwise eps */
    double tau2;
} integral;

/* Weights c[nodes] of the m: their polynomial in lambda, against the exponential of the exact solution.
 *   data    al' k int exp(-k (lambda' - lambda)) m dlambda,  k = 1 + tau^2
 *   noise  -al' (sg / al) k int exp(-(lambda - lambda_step)) m dlambda
 * The integrals of Zhang & Chen 2023 (arXiv:2204.13902), Zhao et al. 2023 (arXiv:2302.04867) and Xue et al. 2023
 * (arXiv:2309.05019). */
static void integrate(const sampler_draft *d, const integral *q, double *c)
{
    const level *L = &d->levels[q->step], *M = L + 1;
    const double k = 1 + q->tau2, decay = q->data ? k : 1, from = level_lambda(L), h = level_lambda(M) - from;
    const double scale = q->data ? M->al * k : -M->al * level_sigma(L) * k;
    const int n = q->nodes;
    double u[NODES], moments[NODES], poly[NODES];
    if (n == 1) { /* of an infinite step, too */
        c[0] = scale * -expm1(-decay * h) / decay;
        return;
    }
    for (int j = 0; j < n; j++) {
        const double at = (level_lambda(&d->levels[q->newest - j]) - from) / h;
        u[j] = q->data ? 1 - at : at;
    }
    exponential_moments(decay * h, moments);
    for (int j = 0; j < n; j++) {
        double sum = 0;
        lagrange(u, n, j, poly);
        for (int m = 0; m < n; m++) sum += poly[m] * moments[m];
        c[j] = scale * h * sum;
    }
}

static double step_length(const sampler_draft *d, int i)
{
    return level_lambda(&d->levels[i + 1]) - level_lambda(&d->levels[i]);
}

static int min3(int a, int b, int c) { return a < b ? (a < c ? a : c) : b < c ? b : c; }

/* ---- LMS, DEIS ---- */

/* k-diffusion's: eps as a polynomial of sigma through the last four. */
void fill_lms(sampler_draft *d)
{
    enum { ORDER = 4 };
    draft_levels_k(d);
    multistep *steps = multistep_array(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const level *L = &d->levels[i], *M = L + 1;
        const int order = i + 1 < ORDER ? i + 1 : ORDER;
        const double from = level_sigma(L), dt = level_sigma(M) - from;
        double u[NODES], poly[NODES];
        for (int j = 0; j < order; j++) u[j] = (level_sigma(L - j) - from) / dt;
        steps[i].a = M->al / L->al;
        for (int j = 0; j < order; j++) {
            lagrange(u, order, j, poly);
            for (int m = 0; m < order; m++) steps[i].c[j] += M->al * dt * poly[m] / (m + 1);
        }
    }
    if (!d->st) draft_multistep(d, steps, false);
    mem_free(steps);
}

/* Orders fall at the end of short runs: to 2, then to 1. */
static int falling_order(const sampler_draft *d, int i, int order)
{
    const bool falls = d->c->lower_order_final && d->n + d->spec->skip < 15;
    return min3(order, i + 1, falls ? d->n - i : order);
}

/* Zhang & Chen 2023 (arXiv:2204.13902), tAB-DEIS with rho = sigma: the "logrho" of diffusers. */
void fill_deis(sampler_draft *d)
{
    draft_levels_dpm(d);
    multistep *steps = multistep_array(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const int order = step_length(d, i) < LAMBDA_APART ? 1 : apart(d, i, falling_order(d, i, d->c->solver_order));
        steps[i].a = d->levels[i + 1].al / d->levels[i].al;
        integrate(d, &(integral){.step = i, .newest = i, .nodes = order}, steps[i].c);
    }
    if (!d->st) draft_multistep(d, steps, false);
    mem_free(steps);
}

/* ---- predictors with correctors ---- */

/* One step from level i, by its predictor, or with the new prediction m(i + 1) by its corrector: x' = a x + sum c m + s
 * xi; c[0] belongs to m(i + 1), c[1] to m(i).  An order of 0: nothing. */
typedef struct solver {
    bool data;
    int (*predictor_order)(const sampler_draft *d, int i);
    int (*corrector_order)(const sampler_draft *d, int i); /* of the step from i, applied in row i + 1 */
    multistep (*step)(const sampler_draft *d, int i, int order, bool correct);
} solver;

/* Predictor and corrector go from one x with one noise: the corrected x is the predicted one and a sum of m's, which
 * the next predictor's row takes in. */
static void predict_and_correct(sampler_draft *d, const solver *q)
{
    multistep *steps = multistep_array(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const multistep predicted = q->step(d, i, q->predictor_order(d, i), false);
        multistep *now = &steps[i];
        now->a = predicted.a, now->s = predicted.s;
        for (int j = 1; j < MULTISTEP_TERMS; j++) now->c[j - 1] = predicted.c[j];
        const int order = i > 0 ? q->corrector_order(d, i - 1) : 0;
        if (order == 0) continue;
        const multistep corrected = q->step(d, i - 1, order, true),
                        before = q->step(d, i - 1, q->predictor_order(d, i - 1), false);
        for (int j = 0; j < MULTISTEP_TERMS; j++) now->c[j] += predicted.a * (corrected.c[j] - before.c[j]);
    }
    if (!d->st) draft_multistep(d, steps, q->data);
    mem_free(steps);
}

static int unipc_order(const sampler_draft *d, int i)
{
    const int left = d->c->lower_order_final ? d->n - i : d->c->solver_order;
    if (d->levels[i + 1].sg == 0 || step_length(d, i) < LAMBDA_APART) return 1;
    return apart(d, i, min3(d->c->solver_order, i + 1, left));
}

static int unipc_corrector(const sampler_draft *d, int i)
{
    if (i < 64 && d->c->disable_corrector >> i & 1) return 0;
    return step_length(d, i) < LAMBDA_APART ? 0 : unipc_order(d, i);
}

/* Zhao et al. 2023 (arXiv:2302.04867), UniP and UniC.  B(h) cancels, but where one of two nodes has the coefficient 1/2
 * in place of the integral's. */
static multistep unipc_step(const sampler_draft *d, int i, int order, bool correct)
{
    const level *L = &d->levels[i], *M = L + 1;
    const bool data = d->c->predict_x0;
    const int nodes = order + correct;
    const double h = step_length(d, i), z = data ? -h : h, g = data ? -M->al : -M->sg;
    multistep step = {.a = data ? M->sg / L->sg : M->al / L->al};
    double *c = step.c + !correct;
    if (nodes != 2) {
        integrate(d, &(integral){.step = i, .newest = i + correct, .nodes = nodes, .data = data}, c);
        return step;
    }
    const double whole = g * expm1(z), half = 0.5 * g * (d->c->solver_type == SCHEDULER_BH1 ? z : expm1(z));
    if (correct) {
        c[0] = half, c[1] = whole - half;
    } else {
        const double apart_by = (level_lambda(L - 1) - level_lambda(L)) / h;
        c[0] = whole - half / apart_by, c[1] = half / apart_by;
    }
    return step;
}

void fill_unipc(sampler_draft *d)
{
    draft_levels_dpm(d);
    predict_and_correct(d, &(solver){d->c->predict_x0, unipc_order, unipc_corrector, unipc_step});
}

static int sa_predictor(const sampler_draft *d, int i)
{
    const int order = d->c->predictor_order, left = d->c->lower_order_final ? d->n - i : order;
    return step_length(d, i) < LAMBDA_APART ? 1 : apart(d, i, min3(order, left, i + 1));
}

static int sa_corrector(const sampler_draft *d, int i)
{
    const int order = d->c->corrector_order, left = d->c->lower_order_final ? d->n - i + 1 : order;
    if (step_length(d, i) < LAMBDA_APART) return 0;
    return order == 0 ? 0 : apart(d, i + 1, min3(order, left, i + 2));
}

/* Xue et al. 2023 (arXiv:2309.05019), algorithm 1, with tau = 1 in the middle of the way, and in second order of data
 * prediction the variant of its authors' code. */
static multistep sa_step(const sampler_draft *d, int i, int order, bool correct)
{
    const level *L = &d->levels[i], *M = L + 1;
    const bool data = d->c->algorithm_type != SCHEDULER_NOISE_PREDICTION;
    const double tau2 = L->t >= 200 && L->t <= 800, k = 1 + tau2, h = step_length(d, i);
    multistep step = {.a = data ? exp(-tau2 * h) * M->sg / L->sg : M->al / L->al,
                      .s = M->sg * sqrt(fmax(data ? -expm1(-2 * tau2 * h) : tau2 * expm1(2 * h), 0))};
    double *c = step.c + !correct;
    integrate(d, &(integral){i, i + correct, order, data, tau2}, c);
    if (data && order == 2) {
        const double rest = (h * k + expm1(-k * h)) / (k * k);
        const double apart_by = correct ? h : level_lambda(L) - level_lambda(L - 1);
        const double more = k * M->al * (correct ? h / 2 - rest / h : (h * h / 2 - rest) / apart_by);
        c[0] += more, c[1] -= more;
    }
    return step;
}

void fill_sa(sampler_draft *d)
{
    draft_levels_dpm(d);
    predict_and_correct(
        d, &(solver){d->c->algorithm_type != SCHEDULER_NOISE_PREDICTION, sa_predictor, sa_corrector, sa_step});
}
