/* sampler_rescale.h - guidance rescale: the factor that gives a guided output the deviation of the conditional one.
 *
 *   factor = phi std(F_c) / std(F) + 1 - phi,   std over the elements of an image
 *   Lin et al. 2023 (arXiv:2305.08891), eq. 15 and 16 */
#ifndef DDPM_SAMPLER_RESCALE_H
#define DDPM_SAMPLER_RESCALE_H
#include "reduce.h"
#include "sampler_row.h"

typedef struct sampler_rescale_args {
    sampler_output model; /* guided; its rescale is not read */
    const sampler_row *rows;
    const sampler_state *state;
    float *factor; /* [n] */
    float phi;     /* in [0, 1] */
} sampler_rescale_args;

/* Sums of a lane: of F_c, F_c^2, F and F^2. */
enum { RESCALE_SUMS = 4 };

HD void sampler_rescale_quad(const sampler_rescale_args *a, const sampler_row *r, int b, int q, storage type,
                             double *sum)
{
    const int count = quad_count(a->model.d, q);
    float with[4], without[4];
    sampler_output_quad(&a->model, b, q, 0, type, with);
    sampler_output_quad(&a->model, a->model.n + b, q, 0, type, without);
    for (int k = 0; k < count; k++) {
        const double c = (double)with[k], f = (double)guided(r, with[k], without[k]);
        sum[0] += c, sum[1] += c * c;
        sum[2] += f, sum[3] += f * f;
    }
}

/* From the sums over an image.  Without any deviation there is nothing to rescale. */
HD float sampler_rescale_factor(const sampler_rescale_args *a, const double *sum)
{
    const double d = a->model.d, of_c = sum[1] - sum[0] * sum[0] / d, of_f = sum[3] - sum[2] * sum[2] / d;
    if (!(of_c > 0.0) || of_f == 0.0) return 1.0f;
    return (float)((double)a->phi * sqrt(of_c / of_f) + 1.0 - (double)a->phi);
}

static inline void sampler_rescale_one(const sampler_rescale_args *a, int b) /* image b on a CPU */
{
    double lane[RESCALE_SUMS][REDUCE_LANES] = {{0.0}}, sum[RESCALE_SUMS];
    const sampler_row r = a->rows[a->state->row];
    for (int q = 0; q < quads_of(a->model.d); q++) {
        double of_quad[RESCALE_SUMS] = {0.0};
        sampler_rescale_quad(a, &r, b, q, STORE_F32, of_quad);
        for (int i = 0; i < RESCALE_SUMS; i++) lane[i][q % REDUCE_LANES] += of_quad[i];
    }
    for (int i = 0; i < RESCALE_SUMS; i++) sum[i] = reduce_lanes(lane[i]);
    a->factor[b] = sampler_rescale_factor(a, sum);
}

C_API ddpm_status k_sampler_rescale(void *stream, const sampler_rescale_args *a); /* asynchronous */

#endif
