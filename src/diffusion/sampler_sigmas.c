/* sampler_sigmas.c - noise levels spaced by rules of their own, from the highest to the lowest. */
#include "diffusion/sampler_draft.h"

/* The continued fraction of the incomplete beta function, DLMF 8.17.22 (https://dlmf.nist.gov/8.17), from its 60th term
 * back; for x < (a + 1) / (a + b + 2) and small a and b that is more than a double can tell. */
static double beta_fraction(double x, double a, double b)
{
    double f = 1;
    for (int i = 60; i > 0; i--) {
        const int m = i / 2;
        const double term = i % 2 ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                  : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
        f = 1 + term / f;
    }
    return 1 / f;
}

/* I_x(a, b), regularized */
static double incomplete_beta(double x, double a, double b)
{
    if (x <= 0 || x >= 1) return x > 0;
    const double front = exp(a * log(x) + b * log1p(-x)) * tgamma(a + b) / (tgamma(a) * tgamma(b));
    if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(x, a, b) / a;
    return 1 - front * beta_fraction(1 - x, b, a) / b;
}

double beta_quantile(double p, double a, double b)
{
    double low = 0, high = 1;
    if (p <= 0 || p >= 1) return p > 0;
    for (int i = 0; i < 1100 && low < high; i++) {
        const double middle = 0.5 * (low + high);
        if (middle == low || middle == high) break;
        *(incomplete_beta(middle, a, b) < p ? &low : &high) = middle;
    }
    return 0.5 * (low + high);
}

double sigma_spaced(scheduler_sigmas kind, double high, double low, double rho, int i, int n)
{
    const double u = n > 1 ? (double)i / (n - 1) : 0;
    switch (kind) {
    case SCHEDULER_SIGMAS_NONE:
    case SCHEDULER_SIGMAS_KARRAS: { /* Karras et al. 2022 (arXiv:2206.00364), eq. 5 */
        const double from = pow(high, 1 / rho), to = pow(low, 1 / rho);
        return pow((1 - u) * from + u * to, rho);
    }
    case SCHEDULER_SIGMAS_BETA: /* Lee et al. 2024 (arXiv:2407.12173), in sigma as diffusers has it */
        return low + (high - low) * beta_quantile(1 - u, 0.6, 0.6);
    case SCHEDULER_SIGMAS_EXPONENTIAL:
    case SCHEDULER_SIGMAS_LU: break; /* even in lambda = -log sigma: the same */
    }
    return exp(log(high) + u * (log(low) - log(high)));
}
