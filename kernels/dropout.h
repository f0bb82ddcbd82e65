/* dropout.h - elements dropped at random, the others scaled up.
 *
 *   y = x mask / (1 - p),   P(mask = 0) = p
 *   Srivastava et al. 2014, JMLR 15, "inverted" as in every library
 *
 * The mask is drawn, never stored: it is that of the sample's ordinal number in the run and of the
 * layer (noise.h).  Linear in x, so the backward pass is the same function of dy. */
#ifndef DDPM_DROPOUT_H
#define DDPM_DROPOUT_H
#include "noise.h"
#include "storage.h"
#include "train_state.h"

typedef struct dropout_args {
    const void *x;            /* [n, d] */
    void *y;                  /* [n, d]  may be x */
    const train_state *state; /* image b is sample number state->sample + b */
    int n, d;                 /* d = elements of one image */
    float p;                  /* in [0, 1) */
    uint32_t layer;           /* which dropout of the network */
    int accumulate;           /* y += instead of y = */
    storage type;             /* of x and y */
} dropout_args;

/* What elements [4 first, 4 (first + quads)) of image b are multiplied by; a plain loop, which compilers
 * vectorize. */
static inline void dropout_factors(const dropout_args *a, int b, int first, int quads, float *factor)
{
    const uint64_t ordinal = a->state->sample + (uint64_t)b, seed = a->state->seed;
    const uint32_t stream = NOISE_DROPOUT + a->layer, threshold = (uint32_t)(a->p * 0x1p32f);
    const float scale = 1.0f / (1.0f - a->p);
    for (int q = 0; q < quads; q++) {
        const philox4 r = noise_bits(seed, stream, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), (uint32_t)(first + q));
        for (int k = 0; k < 4; k++) factor[4 * q + k] = r.v[k] >= threshold ? scale : 0.0f;
    }
}

/* Quad q of image b. */
HD void dropout_quad(const dropout_args *a, int b, int q)
{
    const int count = quad_count(a->d, q);
    const int64_t at = (int64_t)b * a->d + 4 * (int64_t)q;
    const uint64_t ordinal = a->state->sample + (uint64_t)b;
    const philox4 r =
        noise_bits(a->state->seed, NOISE_DROPOUT + a->layer, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), (uint32_t)q);
    const uint32_t threshold = (uint32_t)(a->p * 0x1p32f);
    const float scale = 1.0f / (1.0f - a->p);
    float x[4], y[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    quad_load_as(x, a->x, a->type, at, count);
    if (a->accumulate) quad_load_as(y, a->y, a->type, at, count);
    for (int k = 0; k < 4; k++) y[k] += r.v[k] >= threshold ? scale * x[k] : 0.0f;
    quad_store_as(a->y, a->type, at, y, count);
}

C_API ddpm_status k_dropout(void *stream, const dropout_args *a); /* asynchronous */

#endif
