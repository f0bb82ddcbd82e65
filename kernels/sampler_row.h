/* sampler_row.h - one network evaluation of any sampler: a row of coefficients, and what the network answered.
 *
 *   F       = F_u + guidance (F_c - F_u)      F_c, F_u: the network's output with and without the class label
 *             (Ho & Salimans 2022, arXiv:2207.12598, eq. 6, with guidance = 1 + w)
 *   x0_hat  = clip(c_skip x + c_out F)
 *   x      <- a x + b x0_hat + e F + sum_j w[j] h[j] + s exp(v V) xi,   xi ~ N(0, I)
 *   h[slot] <- p x + q x0_hat, of the x before the step
 *
 * V is the network's second half of channels, where it has learned a variance.  A term whose coefficient is 0 is not
 * read, so its buffer may be uninitialized.  x has the scale that the network is given, x = signal x_0 + noise eps:
 * no row scales its input. */
#ifndef DDPM_SAMPLER_ROW_H
#define DDPM_SAMPLER_ROW_H
#include "storage.h"
#include <stdbool.h>

enum { SAMPLER_SLOTS = 4 };

/* Filled in double by src/diffusion/sampler*.c, kept in float. */
typedef struct sampler_row {
    float t;                /* timestep for the network; may be a fraction */
    float c_skip, c_out;    /* x0_hat, from x and the network's output */
    float clip;             /* x0_hat is clamped to [-clip, clip]; 0: no clamping.  Dynamic thresholding: its maximum */
    float a, b, e, s;       /* coefficients of the update */
    float w[SAMPLER_SLOTS]; /* of what the slots hold before this row */
    float p, q;             /* what is kept in the slot */
    float v;                /* factor of V in the exponent; 0: V is not read */
    int32_t slot;           /* written after the slots were read; -1: nothing is kept */
    float guidance;         /* 1: F_u is not read */
    float signal, noise;    /* level of x after this row; of the image (1, 0) after the last */
    int32_t pad_;
} sampler_row;

typedef struct sampler_state {
    uint64_t seed;
    int32_t row; /* row of the current step; -1 before the first */
    int32_t pad_;
} sampler_state;

/* The network's answer for n images of d = h w c elements. */
typedef struct sampler_output {
    const void *data; /* [n, h, w, c], F; [n, h, w, 2c], F then V, if learned; [2n, ...], F_c then F_u, if guided */
    storage type;
    bool guided, learned;
    int n, d, c;
    const float *rescale; /* [n]  factor of the guided F (sampler_rescale.h); NULL: 1 */
} sampler_output;

HD float clip_to(float v, float limit) { return v < -limit ? -limit : v > limit ? limit : v; } /* NaN stays NaN */

/* v = quad q of output image b, of F (part 0) or of V (part 1).  `type` is m->type, a parameter so that compilers can
 * specialize on a constant. */
HD void sampler_output_quad(const sampler_output *m, int b, int q, int part, storage type, float *v)
{
    const int count = quad_count(m->d, q);
    if (!m->learned) {
        quad_load_as(v, m->data, type, (int64_t)b * m->d + 4 * (int64_t)q, count);
        return;
    }
    for (int k = 0; k < 4; k++) {
        const int i = 4 * q + k, pixel = i / m->c;
        v[k] = k < count ? load_at(m->data, type, 2 * (int64_t)b * m->d + (pixel + part) * m->c + i) : 0.0f;
    }
}

HD float guided(const sampler_row *r, float with, float without) { return without + r->guidance * (with - without); }

/* F of quad q of image b. */
HD void sampler_model_quad(const sampler_output *m, const sampler_row *r, int b, int q, storage type, float *F)
{
    float without[4];
    sampler_output_quad(m, b, q, 0, type, F);
    if (!m->guided || r->guidance == 1.0f) return;
    const float factor = m->rescale ? m->rescale[b] : 1.0f;
    sampler_output_quad(m, m->n + b, q, 0, type, without);
    for (int k = 0; k < 4; k++) F[k] = factor * guided(r, F[k], without[k]);
}

#endif
