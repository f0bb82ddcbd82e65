#include "diffusion/power_average.h"
#include "base/mem.h"

#include <math.h>

static double variance(double gamma) { return (gamma + 1) / ((gamma + 2) * (gamma + 2) * (gamma + 3)); }

double power_average_sigma(double gamma) { return sqrt(variance(gamma)); }

/* The variance falls with gamma, from 1/12 at 0. */
double power_average_gamma(double sigma_rel)
{
    double low = 0, high = 1;
    while (power_average_sigma(high) > sigma_rel) high *= 2;
    for (int i = 0; i < 200 && low < high; i++) {
        const double middle = 0.5 * (low + high);
        if (middle <= low || middle >= high) break;
        *(power_average_sigma(middle) > sigma_rel ? &low : &high) = middle;
    }
    return high;
}

/* Inner product of two profiles, times a common unit of time. */
static double product(power_average a, power_average b)
{
    const power_average early = a.t <= b.t ? a : b, late = a.t <= b.t ? b : a;
    return (a.gamma + 1) * (b.gamma + 1) / (a.gamma + b.gamma + 1) * pow(early.t / late.t, late.gamma) / late.t;
}

/* Solve the n equations rows[n, n + 1] by elimination with partial pivoting; the last column becomes the solution. */
static ddpm_status solve(double *rows, int n, err *e)
{
    const int width = n + 1;
    for (int k = 0; k < n; k++) {
        int best = k;
        for (int i = k + 1; i < n; i++)
            if (fabs(rows[i * width + k]) > fabs(rows[best * width + k])) best = i;
        if (!(fabs(rows[best * width + k]) > 1e-15))
            return err_set(e, DDPM_EINVAL, "%d averages are too similar to be told apart: use fewer of them", n);
        for (int j = k; j < width; j++) {
            const double swapped = rows[k * width + j];
            rows[k * width + j] = rows[best * width + j];
            rows[best * width + j] = swapped;
        }
        for (int i = k + 1; i < n; i++) {
            const double factor = rows[i * width + k] / rows[k * width + k];
            for (int j = k; j < width; j++) rows[i * width + j] -= factor * rows[k * width + j];
        }
    }
    for (int k = n - 1; k >= 0; k--) {
        for (int j = k + 1; j < n; j++) rows[k * width + n] -= rows[k * width + j] * rows[j * width + n];
        rows[k * width + n] /= rows[k * width + k];
    }
    return DDPM_OK;
}

ddpm_status power_average_fit(const power_average *from, int n, power_average to, double *weights, err *e)
{
    double *rows, sum = 0;
    TRY(mem_array(&rows, (size_t)n * ((size_t)n + 1), sizeof *rows, "synthesis of averages", e));
    for (int i = 0; i < n; i++) {
        const power_average a = {from[i].gamma, from[i].t / to.t};
        for (int j = 0; j < n; j++)
            rows[i * (n + 1) + j] = product(a, (power_average){from[j].gamma, from[j].t / to.t});
        rows[i * (n + 1) + n] = product(a, (power_average){to.gamma, 1});
    }
    const ddpm_status st = solve(rows, n, e);
    for (int i = 0; i < n; i++) sum += weights[i] = rows[i * (n + 1) + n];
    for (int i = 0; i < n; i++) weights[i] /= sum;
    mem_free(rows);
    return st;
}
