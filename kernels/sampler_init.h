/* sampler_init.h - what sampling starts from: noise, an image, or an image with noise.
 *
 *   x = signal image + noise xi,   xi ~ N(0, I) drawn from (seed, id of the image) */
#ifndef DDPM_SAMPLER_INIT_H
#define DDPM_SAMPLER_INIT_H
#include "noise.h"
#include "sampler_row.h"

typedef struct sampler_init_args {
    float *x;                   /* [n, d] */
    const sampler_state *state; /* seed */
    const int64_t *ids;         /* [n]  ids of the images, in [0, 2^32) */
    int n, d;
    float noise;        /* 0: nothing is drawn */
    const float *image; /* [images, d]; NULL: noise alone */
    int images;         /* image b starts from image b mod images */
    float signal;
} sampler_init_args;

HD void sampler_init_quad(const sampler_init_args *a, int b, int q, const float *xi)
{
    float x[4], image[4];
    const int count = quad_count(a->d, q);
    for (int k = 0; k < 4; k++) x[k] = a->noise > 0.0f ? a->noise * xi[k] : 0.0f;
    if (a->image) {
        quad_load(image, a->image + (int64_t)(b % a->images) * a->d + 4 * (int64_t)q, count);
        for (int k = 0; k < 4; k++) x[k] = a->signal * image[k] + x[k];
    }
    quad_store(a->x + (int64_t)b * a->d + 4 * (int64_t)q, x, count);
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
