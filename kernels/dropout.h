/* dropout.h - sets random elements to 0 and scales the others up.
 *
 *   y = x mask / (1 - p),   P(mask = 0) = p
 *   Srivastava et al. 2014, JMLR 15, in the usual "inverted" form
 *
 * The mask is never stored: it is drawn from the sample's ordinal number in the run and the number of the layer
 * (noise.h).  The function is linear in x, so the backward pass applies the same function to dy.
 *
 * One draw of four words serves eight elements, 16 bits each: the low half of word k of draw o decides element
 * 8 o + k, the high half element 8 o + 4 + k.  So P(mask = 0) is p rounded down to a multiple of 2^-16. */
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
    uint32_t layer;           /* number of this dropout layer in the network */
    int accumulate;           /* y += instead of y = */
    storage type;             /* of x and y */
} dropout_args;

enum { DROPOUT_OCTET = 8 };

HD int64_t octets_of(int64_t elements) { return (elements + DROPOUT_OCTET - 1) / DROPOUT_OCTET; }

HD philox4 dropout_draw(uint64_t seed, uint32_t layer, uint64_t ordinal, uint32_t octet)
{
    return noise_bits(seed, NOISE_DROPOUT + layer, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), octet);
}

/* An element is kept if its 16 bits are at least this large. */
HD uint32_t dropout_threshold(const dropout_args *a) { return (uint32_t)(a->p * 0x1p16f); }

/* The random words of octets [first, first + octets) of image b, in a plain loop that compilers vectorize. */
static inline void dropout_words(const dropout_args *a, int b, int first, int octets, uint32_t *word)
{
    const uint64_t ordinal = a->state->sample + (uint64_t)b, seed = a->state->seed;
    const uint32_t layer = a->layer;
    for (int o = 0; o < octets; o++) {
        const philox4 r = dropout_draw(seed, layer, ordinal, (uint32_t)(first + o));
        for (int k = 0; k < 4; k++) word[4 * o + k] = r.v[k];
    }
}

/* Applies dropout to octet o of image b. */
HD void dropout_octet(const dropout_args *a, int b, int o)
{
    const philox4 r = dropout_draw(a->state->seed, a->layer, a->state->sample + (uint64_t)b, (uint32_t)o);
    const uint32_t threshold = dropout_threshold(a);
    const float scale = 1.0f / (1.0f - a->p);
    for (int half = 0; half < 2; half++) {
        const int q = 2 * o + half;
        if (q >= quads_of(a->d)) break;
        const int count = quad_count(a->d, q);
        const int64_t at = (int64_t)b * a->d + 4 * (int64_t)q;
        float x[4], y[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        quad_load_as(x, a->x, a->type, at, count);
        if (a->accumulate) quad_load_as(y, a->y, a->type, at, count);
        for (int k = 0; k < 4; k++) y[k] += (r.v[k] >> 16 * half & 0xFFFFu) >= threshold ? scale * x[k] : 0.0f;
        quad_store_as(a->y, a->type, at, y, count);
    }
}

C_API ddpm_status k_dropout(void *stream, const dropout_args *a); /* asynchronous */

#endif
