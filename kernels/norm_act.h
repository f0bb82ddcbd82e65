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
 *   dgamma = sum_n (1 + s) S2,      dbeta = sum_n (1 + s) S1: the sums over n are for grad_sums.h
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
    /* if an image is distributed over blocks: pixels per block, and the usual number of blocks */
    NORM_ACT_CHUNK_LEAST = 512,
    NORM_ACT_CHUNK_MOST = 2048,
    NORM_ACT_CHUNKS = 32
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
    const void *dy; /* [n, hw, c] of f.type */
    void *dx, *dx2; /* shapes of x and x2; NULL: not needed */
    int add, add2;  /* += instead of = */
    void *dcond;    /* shape of cond, rows dcond_ld elements apart; NULL: not needed */
    int64_t dcond_ld;
    int add_dcond;
    /* [n, NORM_SUMS, c]: sums over hw for each image.  NORM_SUM_DBETA and NORM_SUM_DGAMMA: parts of dbeta and dgamma.
     * NORM_SUM_DX: of the final dx and dx2 (before rounding to bf16), parts of the bias gradients of the convolutions
     * that computed x and x2.  grad_sums.h adds the images. */
    float *sums;
    int sum_dx;     /* 0: NORM_SUM_DX is not written */
    float *scratch; /* norm_act_bwd_scratch() bytes */
} norm_act_bwd_args;

enum { NORM_SUM_DBETA, NORM_SUM_DGAMMA, NORM_SUM_DX, NORM_SUMS };

HD float norm_sigmoid(float z) { return 1.0f / (1.0f + exp_f32(-z)); }

/* d silu / dz; s = sigmoid(z) */
HD float norm_silu_slope(float z, float s) { return s * (1.0f + z * (1.0f - s)); }

/* Pixels per block if an image is distributed over blocks: enough for each thread to work far longer on its pixels than
 * on what precedes them, and few enough to fill a device with a batch of 16. */
static inline int norm_act_chunk(int hw)
{
    const int even = hw / NORM_ACT_CHUNKS;
    return even < NORM_ACT_CHUNK_LEAST ? NORM_ACT_CHUNK_LEAST : even > NORM_ACT_CHUNK_MOST ? NORM_ACT_CHUNK_MOST : even;
}

/* Bytes of norm_act_bwd_args.sums, and of scratch: sums per chunk [n, chunks, 2, c].  Both read only n, hw, c1 and c2. */
static inline size_t norm_act_bwd_sums(const norm_act_bwd_args *a)
{
    return (size_t)a->f.n * NORM_SUMS * ((size_t)a->f.c1 + (size_t)a->f.c2) * sizeof(float);
}
static inline size_t norm_act_bwd_scratch(const norm_act_bwd_args *a)
{
    const size_t chunk = (size_t)norm_act_chunk(a->f.hw), chunks = ((size_t)a->f.hw + chunk - 1) / chunk;
    return (size_t)a->f.n * ((size_t)a->f.c1 + (size_t)a->f.c2) * 2 * chunks * sizeof(float);
}

/* Asynchronous.  DDPM_EINVAL: an invalid shape, or more than NORM_ACT_GROUP_MAX channels per group. */
C_API ddpm_status k_norm_act(void *stream, const norm_act_args *a);
C_API ddpm_status k_norm_act_bwd(void *stream, const norm_act_bwd_args *a);
/* The same as if a block had at most `shared` bytes of shared memory: data that does not fit is read twice. */
C_API ddpm_status k_norm_act_within(void *stream, const norm_act_args *a, size_t shared);
C_API ddpm_status k_norm_act_bwd_within(void *stream, const norm_act_bwd_args *a, size_t shared);

#endif
