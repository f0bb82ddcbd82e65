/* time_embed.h - sinusoidal embedding of the timestep.
 *
 *   freq_i = 10000^(-i / (half - freq_shift)),   half = dim / 2
 *   y = [sin(t freq) | cos(t freq)], or cos first with flip_sin_to_cos
 *   Vaswani et al. 2017 (arXiv:1706.03762), section 3.5
 *
 * The float operations have the order of diffusers' get_timestep_embedding(): t freq_i is rounded to float before
 * the sine, which matters for large t. */
#ifndef DDPM_TIME_EMBED_H
#define DDPM_TIME_EMBED_H
#include "math/elementary.h"
#include "storage.h"

typedef struct time_embed_args {
    const float *t;    /* [n]        any real, |t| <= 8192 for full precision; NULL: whole */
    const float *freq; /* [dim / 2]  from time_embed_frequencies() */
    void *y;           /* [n, dim]  of y_type */
    int n, dim;        /* dim >= 4; if dim is odd, the last column is 0 */
    int flip_sin_to_cos;
    storage y_type;
    const int64_t *whole; /* [n]  whole numbers in place of t, converted to float; NULL: t */
} time_embed_args;

/* Computes freq [half] on the host; half - freq_shift must not be 0. */
static inline void time_embed_frequencies(float *freq, int half, float freq_shift)
{
    for (int i = 0; i < half; i++) {
        const float exponent = -9.210340371976184f * (float)i / ((float)half - freq_shift); /* -ln(10000) i / ... */
        freq[i] = (float)exp((double)exponent);
    }
}

/* Writes one sine and one cosine of image b, of frequency i. */
HD void time_embed_pair(const time_embed_args *a, int b, int i)
{
    const int half = a->dim / 2;
    const sincos_pair p = sincos_f32((a->whole ? (float)a->whole[b] : a->t[b]) * a->freq[i]);
    const int64_t at = (int64_t)b * a->dim + i;
    store_at(a->y, a->y_type, at, a->flip_sin_to_cos ? p.cos : p.sin);
    store_at(a->y, a->y_type, at + half, a->flip_sin_to_cos ? p.sin : p.cos);
    if (a->dim % 2 && i == half - 1) store_at(a->y, a->y_type, at + half + 1, 0.0f);
}

/* One column of the embedding of t; 0 for the last column of an odd dim. */
HD float time_embed_column(float t, const float *freq, int dim, int flip_sin_to_cos, int column)
{
    const int half = dim / 2;
    if (column >= 2 * half) return 0.0f;
    const sincos_pair p = sincos_f32(t * freq[column % half]);
    return (column < half) == (flip_sin_to_cos != 0) ? p.cos : p.sin;
}

C_API ddpm_status k_time_embed(void *stream, const time_embed_args *a); /* asynchronous */

#endif
