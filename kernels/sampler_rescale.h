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

/* A lane's sums, to which a quad adds: of F_c, F_c^2, F and F^2. */
enum { RESCALE_SUMS = 4 };

HD void sampler_rescale_quad(const sampler_rescale_args *a, const sampler_row *r, int b, int q, storage type,
                             double *sum)
{
    float with[4], without[4];
    sampler_output_quad(&a->model, b, q, 0, type, with);
    sampler_output_quad(&a->model, a->model.n + b, q, 0, type, without);
    for (int k = 0; k < 4; k++) { /* quads are padded with 0 */
        const double c = (double)with[k], f = (double)guided(r, with[k], without[k]);
        sum[0] += c, sum[1] += c * c;
        sum[2] += f, sum[3] += f * f;
    }
}

/* From the sums over an image; the variances times d^2, in which no division loses digits.  Without any deviation there is
 * nothing to rescale. */
HD float sampler_rescale_factor(const sampler_rescale_args *a, const double *sum)
{
    const double d = a->model.d;
    const float of_c = (float)(d * sum[1] - sum[0] * sum[0]), of_f = (float)(d * sum[3] - sum[2] * sum[2]);
    if (!(of_c > 0.0f) || of_f == 0.0f) return 1.0f;
    return a->phi * sqrtf(of_c / of_f) + (1.0f - a->phi);
}

static inline void sampler_rescale_one(const sampler_rescale_args *a, int b) /* image b on a CPU */
{
    double lane[REDUCE_LANES][RESCALE_SUMS] = {{0.0}}, of_lane[REDUCE_LANES], sum[RESCALE_SUMS];
    const sampler_row r = a->rows[a->state->row];
    for (int q = 0; q < quads_of(a->model.d); q++) sampler_rescale_quad(a, &r, b, q, STORE_F32, lane[q % REDUCE_LANES]);
    for (int i = 0; i < RESCALE_SUMS; i++) {
        for (int l = 0; l < REDUCE_LANES; l++) of_lane[l] = lane[l][i];
        sum[i] = reduce_lanes(of_lane);
    }
    a->factor[b] = sampler_rescale_factor(a, sum);
}

C_API ddpm_status k_sampler_rescale(void *stream, const sampler_rescale_args *a); /* asynchronous */

#endif
