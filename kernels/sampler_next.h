/* sampler_next.h - advances to the next row of the sampler's table and sets the timestep for the network; also draws
 * the initial noise of samples. */
#ifndef DDPM_SAMPLER_NEXT_H
#define DDPM_SAMPLER_NEXT_H
#include "sampler_step.h"

typedef struct sampler_next_args {
    const sampler_row *rows;
    sampler_state *state; /* row += 1: the first call sets it to 0 */
    float *t;             /* [n]  rows[row].t */
    int n;
} sampler_next_args;

static inline void sampler_next_one(const sampler_next_args *a) /* on a CPU */
{
    const sampler_row *r = a->rows + ++a->state->row;
    for (int b = 0; b < a->n; b++) a->t[b] = r->t;
}

C_API ddpm_status k_sampler_next(void *stream, const sampler_next_args *a); /* asynchronous */

/* x = scale xi, with xi ~ N(0, I) drawn from (seed, id). */
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
