/* norm_act.h - group normalization, SiLU and dropout in one kernel, conditioned on the time; and the gradient.
 *
 *   v = cat(x, x2) + addend                     addend [n, c], with NORM_ADD
 *   xhat = (v - mean) rstd                      mean, rstd of a group: c / groups channels, all pixels
 *   z = xhat gain + shift                       gain = gamma (1 + s), shift = beta (1 + s) + t,
 *   y = z sigmoid(z), or z                      s, t [n, c] = halves of cond with NORM_SCALE_SHIFT, else 0
 *   then y = dropout(y) (dropout.h) if a mask is given
 *   Wu & He 2018 (arXiv:1803.08494); Elfwing et al. 2017 (arXiv:1702.03118)
 *
 * Backward, with dz = dropout(dy) act'(z), N elements per group, and S1 = sum dz, S2 = sum dz xhat over the pixels of one
 * channel of one image:
 *   d(v) = rstd (gain dz - sum_group(gain S1) / N - xhat sum_group(gain S2) / N)
 *   dgamma = sum_n (1 + s) S2,      dbeta = sum_n (1 + s) S1
 *   daddend = sum over pixels of d(v);   ds = gamma S2 + beta S1,   dt = S1
 *
 * Each thread sums a few pixels in float; these partial sums are added in double, in an order that depends only on
 * the shapes, the alignment and the shared memory of the device. */
#ifndef DDPM_NORM_ACT_H
#define DDPM_NORM_ACT_H
#include "dropout.h"
#include "storage.h"
#include <stddef.h>

/* The values equal those of norm_cond in ir/step.h. */
typedef enum norm_condition { NORM_PLAIN, NORM_ADD, NORM_SCALE_SHIFT } norm_condition;

enum {
    NORM_ACT_GROUP_MAX = 1024, /* channels per group */
    NORM_ACT_CHUNK = 256       /* pixels per block if an image is distributed over blocks */
};

typedef struct norm_act_args {
    const void *x, *x2;        /* [n, hw, c1], [n, hw, c2] of `type`; c2 = 0: x2 is NULL */
    const float *gamma, *beta; /* [c], c = c1 + c2 */
    const void *cond;          /* [n, c] or [n, 2c] of `type`, rows cond_ld elements apart; NULL with NORM_PLAIN */
    int64_t cond_ld;
    void *y;            /* [n, hw, c] of `type`, overlaps neither x nor x2; the backward pass does not access it */
    float *mean, *rstd; /* [n, groups] written by k_norm_act(), read by k_norm_act_bwd() */
    storage type;
    norm_condition kind;
    int n, hw, c1, c2, groups;
    int silu; /* 0: y = z */
    float eps;
    dropout_mask dropout;
} norm_act_args;

typedef struct norm_act_bwd_args {
    norm_act_args f;
    const void *dy;        /* [n, hw, c] of f.type */
    void *dx, *dx2;        /* shapes of x and x2; NULL: not needed */
    int add, add2;         /* += instead of = */
    float *dgamma, *dbeta; /* [c]; NULL: not needed */
    int add_dgamma, add_dbeta;
    void *dcond; /* shape of cond, rows dcond_ld elements apart; NULL: not needed */
    int64_t dcond_ld;
    int add_dcond;
    /* [c1], [c2]: sums over n and hw of the final dx and dx2 (before rounding to bf16): the bias gradients of the
     * convolutions that computed x and x2.  NULL: not needed */
    float *dbias, *dbias2;
    int add_dbias, add_dbias2;
    float *scratch; /* norm_act_bwd_scratch() bytes */
} norm_act_bwd_args;

HD float norm_sigmoid(float z) { return 1.0f / (1.0f + exp_f32(-z)); }

/* d silu / dz; s = sigmoid(z) */
HD float norm_silu_slope(float z, float s) { return s * (1.0f + z * (1.0f - s)); }

/* Bytes of norm_act_bwd_args.scratch: sums per image [n, 3, c], then sums per chunk [n, chunks, 2, c].  Reads only
 * n, hw, c1 and c2. */
static inline size_t norm_act_bwd_scratch(const norm_act_bwd_args *a)
{
    const size_t chunks = ((size_t)a->f.hw + NORM_ACT_CHUNK - 1) / NORM_ACT_CHUNK;
    return (size_t)a->f.n * ((size_t)a->f.c1 + (size_t)a->f.c2) * (3 + 2 * chunks) * sizeof(float);
}

/* Asynchronous.  DDPM_EINVAL: an invalid shape, or more than NORM_ACT_GROUP_MAX channels per group. */
C_API ddpm_status k_norm_act(void *stream, const norm_act_args *a);
C_API ddpm_status k_norm_act_bwd(void *stream, const norm_act_bwd_args *a);
/* The same as if a block had at most `shared` bytes of shared memory: data that does not fit is read twice. */
C_API ddpm_status k_norm_act_within(void *stream, const norm_act_args *a, size_t shared);
C_API ddpm_status k_norm_act_bwd_within(void *stream, const norm_act_bwd_args *a, size_t shared);

#endif
