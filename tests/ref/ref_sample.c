/* ref_sample.c - references of the sampling ops: initial noise and a sampler step. */
#include "noise.h"
#include "ref/ref_ops.h"

#include <math.h>
#include <stdlib.h>

void ref_class_embed(int n, int width, const int64_t *labels, const double *x, const double *table, double *y)
{
    for (int b = 0; b < n; b++)
        for (int i = 0; i < width; i++) {
            const double z = x[b * width + i] + (labels[b] < 0 ? 0 : table[labels[b] * width + i]);
            y[b * width + i] = z / (1 + exp(-z));
        }
}

static double normal(uint64_t seed, uint32_t stream, int64_t id, int row, int i)
{
    return (double)noise_normal4(seed, stream, (uint32_t)id, (uint32_t)row, (uint32_t)(i / 4)).v[i % 4];
}

static double prediction(const ref_sample *a, const sampler_row *r, int b, int64_t at)
{
    if (!a->without || r->guidance == 1) return a->model[at];
    const double F = a->without[at] + (double)r->guidance * (a->model[at] - a->without[at]);
    return a->rescale ? a->rescale[b] * F : F;
}

static double clipped(const ref_sample *a, const sampler_row *r, int b, double x0)
{
    const double limit = a->limit ? a->limit[b] : (double)r->clip;
    if (limit > 0) x0 = fmin(fmax(x0, -limit), limit);
    return a->limit ? x0 / limit : x0;
}

static void step_value(const ref_sample *a, const sampler_row *r, int b, int i)
{
    const int64_t at = (int64_t)b * a->d + i;
    const double x = a->x[at], F = prediction(a, r, b, at);
    const double x0 = clipped(a, r, b, (double)r->c_skip * x + (double)r->c_out * F);
    double next = (double)r->a * x + (double)r->b * x0 + (double)r->e * F;
    for (int j = 0; j < SAMPLER_SLOTS; j++)
        if (r->w[j] != 0) next += (double)r->w[j] * a->h[j][at];
    if (r->s != 0)
        next += (double)r->s * (r->v != 0 ? exp((double)r->v * a->variance[at]) : 1) *
                normal(a->seed, NOISE_SAMPLE_STEP, a->ids[b], a->row, i);
    if (r->slot >= 0) a->h[r->slot][at] = (double)r->p * x + (double)r->q * x0;
    if (a->mask && !a->mask[i / a->c])
        next = (double)r->signal * a->image[at] +
               (double)r->noise * normal(a->seed, NOISE_SAMPLE_PASTE, a->ids[b], a->row, i);
    a->x[at] = next;
    if (a->x0) a->x0[at] = x0;
}

void ref_sampler_step(const ref_sample *a, const sampler_row *r)
{
    for (int b = 0; b < a->n; b++)
        for (int i = 0; i < a->d; i++) step_value(a, r, b, i);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double ref_quantile(const double *v, int n, double q)
{
    double *sorted = malloc((size_t)n * sizeof *sorted);
    for (int i = 0; i < n; i++) sorted[i] = fabs(v[i]);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    const double place = q * (n - 1);
    const int k = (int)place;
    const double at = sorted[k], next = sorted[k + 1 < n ? k + 1 : k];
    free(sorted);
    return at + (place - k) * (next - at);
}

static double deviation(const double *v, int n)
{
    double mean = 0, sum = 0;
    for (int i = 0; i < n; i++) mean += v[i] / n;
    for (int i = 0; i < n; i++) sum += (v[i] - mean) * (v[i] - mean);
    return sqrt(sum / (n - 1));
}

double ref_rescale(const double *with, const double *guided, int n, double phi)
{
    return phi * deviation(with, n) / deviation(guided, n) + 1 - phi;
}

void ref_sampler_init(int n, int d, uint64_t seed, const int64_t *ids, double *x)
{
    for (int b = 0; b < n; b++)
        for (int i = 0; i < d; i++) x[(int64_t)b * d + i] = normal(seed, NOISE_SAMPLE_INIT, ids[b], 0, i);
}
