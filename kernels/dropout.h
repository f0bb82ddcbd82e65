/* dropout.h - the mask of dropout, which norm_act.h applies to its output.
 *
 *   y = x mask / (1 - p),   P(mask = 0) = p
 *   Srivastava et al. 2014, JMLR 15, in the usual "inverted" form
 *
 * The mask is never stored: it is drawn from the sample's ordinal number in the run and the number of the layer
 * (noise.h).  The function is linear in x, so the backward pass applies the same function to dy.
 *
 * One draw of four words serves eight elements (an octet), 16 bits each: the low half of word k of draw o decides
 * element 8 o + k, the high half element 8 o + 4 + k.  Elements are counted in NHWC order within one image.  So
 * P(mask = 0) is p rounded down to a multiple of 2^-16. */
#ifndef DDPM_DROPOUT_H
#define DDPM_DROPOUT_H
#include "noise.h"
#include "train_state.h"

typedef struct dropout_mask {
    const train_state *state; /* image b is sample number state->sample + b; NULL: no dropout */
    uint32_t layer;           /* number of this dropout layer in the network */
    uint32_t threshold;       /* an element is kept if its 16 bits are at least this large */
    float scale;              /* factor of the elements that are kept */
} dropout_mask;

/* p in [0, 1) */
HD dropout_mask dropout_mask_of(const train_state *state, float p, uint32_t layer)
{
    const dropout_mask m = {state, layer, (uint32_t)(p * 0x1p16f), 1.0f / (1.0f - p)};
    return m;
}

enum { DROPOUT_OCTET = 8 };

HD philox4 dropout_draw(uint64_t seed, uint32_t layer, uint64_t ordinal, uint32_t octet)
{
    return noise_bits(seed, NOISE_DROPOUT + layer, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), octet);
}

#endif
