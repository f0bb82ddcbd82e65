/* ref_ops.h - reference implementations of all ops: plain loops in double, sharing no code with a backend.
 *
 * NHWC throughout; filters are [cout, kh, kw, cin].  Optional arrays are NULL where an op lacks them.
 * Training and sampling ops take their noise from kernels/noise.h: the noise is part of their definition. */
#ifndef DDPM_REF_OPS_H
#define DDPM_REF_OPS_H
#include "sampler_step.h"
#include "train_state.h"
#include "update.h"

#include <stdbool.h>
#include <stdint.h>

/* ---- networks ---- */

typedef struct ref_conv {
    int n, h, w, c1, c2, cout; /* sources [n, h, w, c1] and [n, h, w, c2]; c2 = 0: one source */
    int kernel, stride;
    bool pad_end; /* one zero row below and one zero column to the right, instead of one on each side */
} ref_conv;
/* output height or width: ceil(size / stride) */
int ref_conv_side(const ref_conv *a, int size);
/* y [n, h', w', cout] = conv(cat(x, x2), weight) + bias + residual */
void ref_conv2d(const ref_conv *a, const double *x, const double *x2, const double *weight, const double *bias,
                const double *residual, double *y);
/* y [n, 2h, 2w, cout]: repeat every pixel four times, then a 3x3 convolution. */
void ref_upconv(const ref_conv *a, const double *x, const double *weight, const double *bias, double *y);

enum { REF_NONE, REF_ADD, REF_SCALE_SHIFT }; /* norm_cond's values */
typedef struct ref_norm {
    int n, hw, c1, c2, groups;
    double eps;
    bool silu;
    int cond; /* REF_ADD: [n, c]; REF_SCALE_SHIFT: [n, 2c] = scale | shift */
} ref_norm;
/* y [n, hw, c1 + c2].  Wu & He 2018 (arXiv:1803.08494), eq. 1 and 6. */
void ref_norm_act(const ref_norm *a, const double *x, const double *x2, const double *gamma, const double *beta,
                  const double *cond, double *y);

/* y [n, cout] = act(x [n, cin] weight [cout, cin]^T + bias) */
void ref_linear(int n, int cin, int cout, bool silu, const double *x, const double *weight, const double *bias,
                double *y);
/* y [n, s, c] from qkv [n, s, 3c].  Vaswani et al. 2017 (arXiv:1706.03762), eq. 1, for each head. */
void ref_attention(int n, int s, int c, int heads, const double *qkv, double *y);
/* y [n, dim]: sines, then cosines, or the other way round with flip_sin_to_cos, and a 0 if dim is odd; the angle is
 * rounded to float first. */
void ref_time_embed(int n, int dim, bool flip_sin_to_cos, const double *t, const double *freq, double *y);
void ref_relu(int64_t count, const double *x, double *y);
/* y [rows, c1 + c2] */
void ref_concat(int rows, int c1, int c2, const double *x, const double *x2, double *y);
void ref_affine(int64_t count, double scale, double shift, const double *x, double *y);
/* y [n, d] = x mask / (1 - rate), with the masks of samples state->sample + 0 .. n - 1 */
void ref_dropout(int n, int d, double rate, uint32_t layer, const train_state *state, const double *x, double *y);

/* ---- training ---- */

typedef struct ref_batch {
    const uint8_t *images; /* [n, h, w, c] */
    const float *table;    /* [timesteps, TABLE_COLUMNS] */
    const train_state *state;
    int n, h, w, c, timesteps;
    bool flip;
    /* A learned variance: pred and dpred are [n, h, w, 2c].  The bound, times `bound`, is added to the loss, or with `kl`
     * the loss.  held: the prediction that the bound is of, instead of pred's own first half; NULL: pred */
    bool learned, kl;
    double bound;
    const double *held;
} ref_batch;
/* The row of image b in the table, TABLE_COLUMNS values. */
const float *ref_row(const ref_batch *a, int b);
/* t [n]: TABLE_TIME of the rows */
void ref_q_sample(const ref_batch *a, double *xt, double *t);
/* loss [n]: mean of each image; dpred = scale d(sum of squares); with a learned variance that of the loss, where the bound
 * trains the second half alone unless it is the loss */
void ref_loss(const ref_batch *a, const double *pred, double scale, double *loss, double *dpred);

/* The optimizer's arrays, [count] each; ema may be NULL. */
typedef struct ref_weights {
    double *w, *g, *m, *v, *ema;
    int64_t count;
} ref_weights;
typedef struct ref_optimizer {
    double beta1, beta2, eps, weight_decay, max_grad_norm;
    double lr, ema_decay; /* of this step */
    int64_t updates;      /* Adam's t: 1 at the first update */
} ref_optimizer;
double ref_grad_norm(const ref_weights *a);
/* Clip, AdamW (Loshchilov & Hutter 2019, algorithm 2, decay scaled by lr), EMA. */
void ref_adamw(const ref_weights *a, const ref_optimizer *o);

/* ---- sampling ---- */

/* y [n, width] = silu(x + table[label]), table [classes, width]; label -1: silu(x) */
void ref_class_embed(int n, int width, const int64_t *labels, const double *x, const double *table, double *y);

typedef struct ref_sample {
    double *x;                /* [n, d], updated */
    double *h[SAMPLER_SLOTS]; /* [n, d], updated */
    double *x0;               /* [n, d], written */
    const double *model;      /* [n, d], F */
    const double *without;    /* [n, d], F without a label; NULL: not guided */
    const double *variance;   /* [n, d], V; NULL: not learned */
    const double *limit;      /* [n], dynamic thresholds; NULL */
    const double *rescale;    /* [n], factors of the guided F; NULL */
    const double *image;      /* [n, d]; NULL: no mask */
    const uint8_t *mask;      /* [d / c] */
    const int64_t *ids;       /* [n] */
    uint64_t seed;
    int row, n, d, c;
} ref_sample;
void ref_sampler_step(const ref_sample *a, const sampler_row *r);
/* The q-quantile of |v[n]|, linear between order statistics. */
double ref_quantile(const double *v, int n, double q);
/* phi std(with) / std(guided) + 1 - phi */
double ref_rescale(const double *with, const double *guided, int n, double phi);
/* x [n, d], the N(0, 1) noise of (seed, id) */
void ref_sampler_init(int n, int d, uint64_t seed, const int64_t *ids, double *x);

#endif
