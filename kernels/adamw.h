/* adamw.h - AdamW or Adam in one pass over all parameters: gradient clipping, update, averages, a low-precision copy,
 * and zeroing of the gradient.
 *
 *   g <- clip g                            Adam: g <- clip g + weight_decay w
 *   w <- (1 - lr weight_decay) w           Adam: without this
 *   m <- m + (1 - beta1) (g - m),   v <- beta2 v + (1 - beta2) g^2
 *   w <- w - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 *   ema <- ema - (1 - ema_decay) (ema - w)
 *   Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1; Loshchilov & Hutter 2019 (arXiv:1711.05101),
 *   algorithm 2, with the decay scaled by lr, in the order of operations of torch.optim.AdamW and torch.optim.Adam
 *
 * The scalars of the step come from the state (update.h).  With state->clip = 0 the update is skipped: only the
 * gradient is zeroed (with zero_grad), even if it is not finite.
 *
 * Weights that do not decay (biases and the weights of norms) are marked in a bitmap, one bit for a block of
 * ADAMW_BLOCK weights: in a list of ranges every thread would have to search. */
#ifndef DDPM_ADAMW_H
#define DDPM_ADAMW_H
#include "storage.h"
#include "train_state.h"
#include <math.h>

enum { ADAMW_BLOCK = 16 }; /* a parameter begins at a multiple of it */

/* Averages beside the first, [count] each, without gaps. */
typedef struct adamw_more {
    float *ema[EMA_MORE];
} adamw_more;

/* At most 128 bytes: of kernels with larger arguments nvcc 13.0 makes longer code. */
typedef struct adamw_args {
    float *w, *g, *m, *v;     /* [count] */
    float *ema;               /* [count]  NULL: none */
    const train_state *state; /* after train_state_update() */
    int64_t count;            /* >= 1 */
    double beta1, beta2, eps, weight_decay;
    int zero_grad;          /* write 0 to g after reading it */
    void *low;              /* [count]  a copy of the updated w, of low_type.  NULL: none */
    storage low_type;       /* type of low */
    int adam;               /* Adam instead of AdamW */
    const uint8_t *fixed;   /* bit i % 8 of byte i / 8: block i does not decay.  NULL: every block decays */
    const adamw_more *more; /* NULL: none; in the host's memory */
} adamw_args;

/* The factors of a step, rounded to float like torch's. */
typedef struct adamw_factors {
    float clip, keep, l2, rate1, beta2, rate2, step_size, denom_scale, eps, ema_rate;
} adamw_factors;

HD adamw_factors adamw_prepare(const adamw_args *a)
{
    const train_state *s = a->state;
    adamw_factors f;
    f.clip = s->clip;
    f.keep = a->adam ? 1.0f : (float)(1.0 - (double)s->lr * a->weight_decay);
    f.l2 = a->adam ? (float)a->weight_decay : 0.0f;
    f.rate1 = (float)(1.0 - a->beta1);
    f.beta2 = (float)a->beta2;
    f.rate2 = (float)(1.0 - a->beta2);
    f.step_size = s->step_size;
    f.denom_scale = s->denom_scale;
    f.eps = (float)a->eps;
    f.ema_rate = s->ema_rate;
    return f;
}

/* Does the block of weight i not decay? */
HD int adamw_is_fixed(const adamw_args *a, int64_t i)
{
    const uint64_t block = (uint64_t)i / ADAMW_BLOCK;
    return a->fixed && (a->fixed[block / 8] >> (unsigned)block % 8 & 1);
}

/* For a weight that does not decay. */
HD void adamw_fix(adamw_factors *f) { f->keep = 1.0f, f->l2 = 0.0f; }

HD void adamw_element(const adamw_factors *f, float gradient, float *w, float *m, float *v)
{
    const float clipped = gradient * f->clip, g = f->l2 != 0.0f ? clipped + f->l2 * *w : clipped;
    *m = *m + f->rate1 * (g - *m);
    *v = *v * f->beta2 + f->rate2 * g * g;
    *w = *w * f->keep - f->step_size * *m / (sqrtf(*v) * f->denom_scale + f->eps);
}

HD float adamw_ema(float rate, float ema, float w) { return ema - rate * (ema - w); }

/* Weights [begin, end), which all decay or all do not, on a CPU. */
static inline void adamw_stretch(const adamw_args *a, const adamw_factors *factors, int64_t begin, int64_t end)
{
    const adamw_factors f = *factors;
    float *__restrict__ w = a->w, *__restrict__ g = a->g, *__restrict__ m = a->m, *__restrict__ v = a->v;
    float *__restrict__ ema = a->ema;
    const int apply = f.clip != 0.0f, zero = a->zero_grad;
    for (int64_t i = begin; i < end; i++) {
        if (apply) adamw_element(&f, g[i], &w[i], &m[i], &v[i]);
        if (apply && ema) ema[i] = adamw_ema(f.ema_rate, ema[i], w[i]);
        if (zero) g[i] = 0.0f;
    }
    if (!apply) return;
    for (int k = 0; a->more && k < EMA_MORE && a->more->ema[k]; k++) {
        float *__restrict__ more = a->more->ema[k];
        const float rate = a->state->more_ema_rate[k];
        for (int64_t i = begin; i < end; i++) more[i] = adamw_ema(rate, more[i], w[i]);
    }
    if (a->low)
        for (int64_t i = begin; i < end; i++) store_at(a->low, a->low_type, i, w[i]);
}

/* Weights [begin, end), on a CPU. */
static inline void adamw_range(const adamw_args *a, int64_t begin, int64_t end)
{
    const adamw_factors decays = adamw_prepare(a);
    adamw_factors fixed = decays;
    adamw_fix(&fixed);
    for (int64_t from = begin; from < end;) {
        const int is_fixed = adamw_is_fixed(a, from);
        int64_t to = a->fixed ? (from / ADAMW_BLOCK + 1) * ADAMW_BLOCK : end;
        while (to < end && adamw_is_fixed(a, to) == is_fixed) to += ADAMW_BLOCK;
        adamw_stretch(a, is_fixed ? &fixed : &decays, from, to < end ? to : end);
        from = to;
    }
}

C_API ddpm_status k_adamw(void *stream, const adamw_args *a); /* asynchronous */

#endif
