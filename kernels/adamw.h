/* adamw.h - AdamW in one pass over all parameters: gradient clipping, update, EMA, a low-precision copy, and zeroing
 * of the gradient.
 *
 *   g <- clip g
 *   w <- (1 - lr weight_decay) w
 *   m <- m + (1 - beta1) (g - m),   v <- beta2 v + (1 - beta2) g^2
 *   w <- w - lr / (1 - beta1^t) m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
 *   ema <- ema - (1 - ema_decay) (ema - w)
 *   Kingma & Ba 2015 (arXiv:1412.6980), algorithm 1; Loshchilov & Hutter 2019 (arXiv:1711.05101),
 *   algorithm 2, with the decay scaled by lr, in the order of operations of torch.optim.AdamW
 *
 * The scalars of the step come from the state (update.h).  With state->clip = 0 the update is skipped: only the
 * gradient is zeroed (with zero_grad), even if it is not finite. */
#ifndef DDPM_ADAMW_H
#define DDPM_ADAMW_H
#include "storage.h"
#include "train_state.h"
#include <math.h>

typedef struct adamw_args {
    float *w, *g, *m, *v;     /* [count] */
    float *ema;               /* [count]  NULL: none */
    const train_state *state; /* after train_state_update() */
    int64_t count;            /* >= 1 */
    double beta1, beta2, eps, weight_decay;
    int zero_grad;    /* write 0 to g after reading it */
    void *low;        /* [count]  a copy of the updated w, of low_type.  NULL: none */
    storage low_type; /* type of low */
} adamw_args;

/* The factors of a step, rounded to float like torch's. */
typedef struct adamw_factors {
    float clip, keep, rate1, beta2, rate2, step_size, denom_scale, eps, ema_rate;
} adamw_factors;

HD adamw_factors adamw_prepare(const adamw_args *a)
{
    const train_state *s = a->state;
    adamw_factors f;
    f.clip = s->clip;
    f.keep = (float)(1.0 - (double)s->lr * a->weight_decay);
    f.rate1 = (float)(1.0 - a->beta1);
    f.beta2 = (float)a->beta2;
    f.rate2 = (float)(1.0 - a->beta2);
    f.step_size = s->step_size;
    f.denom_scale = s->denom_scale;
    f.eps = (float)a->eps;
    f.ema_rate = s->ema_rate;
    return f;
}

HD void adamw_element(const adamw_factors *f, float gradient, float *w, float *m, float *v)
{
    const float g = gradient * f->clip;
    *m = *m + f->rate1 * (g - *m);
    *v = *v * f->beta2 + f->rate2 * g * g;
    *w = *w * f->keep - f->step_size * *m / (sqrtf(*v) * f->denom_scale + f->eps);
}

HD float adamw_ema(const adamw_factors *f, float ema, float w) { return ema - f->ema_rate * (ema - w); }

/* Parameters [begin, end), on a CPU. */
static inline void adamw_range(const adamw_args *a, int64_t begin, int64_t end)
{
    const adamw_factors f = adamw_prepare(a);
    float *__restrict__ w = a->w, *__restrict__ g = a->g, *__restrict__ m = a->m, *__restrict__ v = a->v;
    float *__restrict__ ema = a->ema;
    const int apply = f.clip != 0.0f, zero = a->zero_grad;
    for (int64_t i = begin; i < end; i++) {
        if (apply) adamw_element(&f, g[i], &w[i], &m[i], &v[i]);
        if (apply && ema) ema[i] = adamw_ema(&f, ema[i], w[i]);
        if (zero) g[i] = 0.0f;
    }
    if (apply && a->low)
        for (int64_t i = begin; i < end; i++) store_at(a->low, a->low_type, i, w[i]);
}

C_API ddpm_status k_adamw(void *stream, const adamw_args *a); /* asynchronous */

#endif
