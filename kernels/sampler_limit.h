/* sampler_limit.h - the threshold of an image: a quantile of |c_skip x + c_out F| over its elements.
 *
 * Dynamic thresholding of Saharia et al. 2022 (arXiv:2205.11487, section 2.3).  The quantile is exact, linear between
 * the order statistics k and k + 1, as torch.quantile() computes it, and held in [1, row.clip] (diffusers'
 * sample_max_value).  Values of 0 or more compare as their bits do: four passes find order statistic k, eight bits
 * each; the next one is k again, or the least value above it. */
#ifndef DDPM_SAMPLER_LIMIT_H
#define DDPM_SAMPLER_LIMIT_H
#include "sampler_row.h"

enum { LIMIT_BINS = 256, LIMIT_PASSES = 4 };

typedef struct sampler_limit_args {
    const float *x; /* [n, d] */
    sampler_output model;
    const sampler_row *rows;
    const sampler_state *state;
    float *limit;   /* [n] */
    int k;          /* order statistic, from 0; k < d */
    float fraction; /* of the way to the next, in [0, 1); 0: the next is not needed */
} sampler_limit_args;

HD uint32_t limit_key(float v) /* NaN is the largest */
{
    union {
        float v;
        uint32_t bits;
    } u = {v};
    return u.bits & 0x7fffffffu;
}

HD float limit_value(uint32_t key)
{
    union {
        uint32_t bits;
        float v;
    } u = {key};
    return u.v;
}

/* The keys of quad q of image b; returns their number. */
HD int limit_keys(const sampler_limit_args *a, const sampler_row *r, int b, int q, storage type, uint32_t *key)
{
    const int count = quad_count(a->model.d, q);
    float x[4], F[4];
    quad_load(x, a->x + (int64_t)b * a->model.d + 4 * (int64_t)q, count);
    sampler_model_quad(&a->model, r, b, q, type, F);
    for (int k = 0; k < 4; k++) key[k] = limit_key(r->c_skip * x[k] + r->c_out * F[k]);
    return count;
}

/* Does a key begin with the digits of `prefix` that `pass` passes have found?  *bin: its next digit. */
HD bool limit_digit(uint32_t key, uint32_t prefix, int pass, uint32_t *bin)
{
    const int shift = 8 * (LIMIT_PASSES - 1 - pass);
    *bin = key >> shift & (LIMIT_BINS - 1);
    return pass == 0 || key >> (shift + 8) == prefix;
}

HD float limit_of(const sampler_limit_args *a, const sampler_row *r, float at_k, float next)
{
    const float v = a->fraction > 0.0f ? at_k + a->fraction * (next - at_k) : at_k;
    return v < 1.0f ? 1.0f : v > r->clip ? r->clip : v;
}

/* The threshold of image b on a CPU, where the output is float. */
static inline void sampler_limit_one(const sampler_limit_args *a, int b)
{
    const sampler_row r = a->rows[a->state->row];
    const int quads = (int)quads_of(a->model.d);
    int k = a->k, equal = 0;
    uint32_t prefix = 0, key[4], bin, next = 0xffffffffu;
    for (int pass = 0; pass < LIMIT_PASSES; pass++) {
        int count[LIMIT_BINS] = {0};
        for (int q = 0; q < quads; q++)
            for (int i = 0, n = limit_keys(a, &r, b, q, STORE_F32, key); i < n; i++)
                if (limit_digit(key[i], prefix, pass, &bin)) count[bin]++;
        for (bin = 0; k >= count[bin]; bin++) k -= count[bin];
        equal = count[bin];
        prefix = prefix << 8 | bin;
    }
    if (k + 1 < equal) next = prefix;
    for (int q = 0; q < quads && k + 1 >= equal && a->fraction > 0.0f; q++)
        for (int i = 0, n = limit_keys(a, &r, b, q, STORE_F32, key); i < n; i++)
            if (key[i] > prefix && key[i] < next) next = key[i];
    a->limit[b] = limit_of(a, &r, limit_value(prefix), limit_value(next));
}

C_API ddpm_status k_sampler_limit(void *stream, const sampler_limit_args *a); /* asynchronous */

#endif
