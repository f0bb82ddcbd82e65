/* sampler_init.h - the noise that sampling starts from.
 *
 *   x_T = scale xi,   xi ~ N(0, I) drawn from (seed, id of the image) */
#ifndef DDPM_SAMPLER_INIT_H
#define DDPM_SAMPLER_INIT_H
#include "sampler_step.h"

typedef struct sampler_init_args {
    float *x;                   /* [n, d] */
    const sampler_state *state; /* seed */
    const int64_t *ids;         /* [n]  ids of the images, in [0, 2^32) */
    int n, d;
    float scale;
} sampler_init_args;

HD void sampler_init_quad(const sampler_init_args *a, int b, int q, const float *xi)
{
    float x[4];
    for (int k = 0; k < 4; k++) x[k] = a->scale * xi[k];
    quad_store(a->x + (int64_t)b * a->d + 4 * (int64_t)q, x, quad_count(a->d, q));
}

static inline void sampler_init_one(const sampler_init_args *a, int b) /* image b on a CPU */
{
    for (int q = 0; q < quads_of(a->d); q++) {
        const normal4 xi = noise_normal4(a->state->seed, NOISE_SAMPLE_INIT, (uint32_t)a->ids[b], 0, (uint32_t)q);
        sampler_init_quad(a, b, q, xi.v);
    }
}

C_API ddpm_status k_sampler_init(void *stream, const sampler_init_args *a); /* asynchronous */

#endif
