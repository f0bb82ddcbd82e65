/* ref_sample.c - references of the sampling ops: initial noise and a sampler step. */
#include "noise.h"
#include "ref/ref_ops.h"

#include <math.h>

static double normal(uint64_t seed, uint32_t stream, int64_t id, int row, int i)
{
    return (double)noise_normal4(seed, stream, (uint32_t)id, (uint32_t)row, (uint32_t)(i / 4)).v[i % 4];
}

void ref_sampler_step(const ref_sample *a, const sampler_row *r)
{
    for (int b = 0; b < a->n; b++)
        for (int i = 0; i < a->d; i++) {
            const int64_t at = (int64_t)b * a->d + i;
            const double x = a->x[at], limit = (double)r->clip;
            double x0 = (double)r->c_skip * x + (double)r->c_out * a->model[at];
            if (limit > 0) x0 = fmin(fmax(x0, -limit), limit);
            double next = (double)r->a * x + (double)r->b * x0;
            if (r->c != 0) next += (double)r->c * a->x0_prev[at];
            if (r->d != 0) next += (double)r->d * a->x_saved[at];
            next += (double)r->s * normal(a->seed, NOISE_SAMPLE_STEP, a->ids[b], a->row, i);
            a->x[at] = next;
            if (a->x0_prev) a->x0_prev[at] = x0;
            if (a->x_saved && r->flags & SAMPLER_SAVE_X) a->x_saved[at] = x;
        }
}

void ref_sampler_init(int n, int d, uint64_t seed, const int64_t *ids, double *x)
{
    for (int b = 0; b < n; b++)
        for (int i = 0; i < d; i++) x[(int64_t)b * d + i] = normal(seed, NOISE_SAMPLE_INIT, ids[b], 0, i);
}
