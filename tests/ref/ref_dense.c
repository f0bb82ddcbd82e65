/* ref_dense.c - references of linear, attention and time_embed, and of the element-wise ops. */
#include "noise.h"
#include "ref/ref_ops.h"

#include <math.h>
#include <stdlib.h>

void ref_linear(int n, int cin, int cout, bool silu, const double *x, const double *weight, const double *bias,
                double *y)
{
    for (int b = 0; b < n; b++)
        for (int o = 0; o < cout; o++) {
            double z = bias[o];
            for (int i = 0; i < cin; i++) z += x[b * cin + i] * weight[o * cin + i];
            y[b * cout + o] = silu ? z / (1 + exp(-z)) : z;
        }
}

/* One row of one head: weights p [s], then their mean of the values. */
static void attend(const double *image, int s, int c, int d, int head, int row, double *p, double *y)
{
    const double *q = image + (int64_t)row * 3 * c + head * d;
    double top = -INFINITY, sum = 0;
    for (int j = 0; j < s; j++) {
        const double *k = image + (int64_t)j * 3 * c + c + head * d;
        p[j] = 0;
        for (int i = 0; i < d; i++) p[j] += q[i] * k[i] / sqrt(d);
        top = fmax(top, p[j]);
    }
    for (int j = 0; j < s; j++) sum += p[j] = exp(p[j] - top);
    for (int i = 0; i < d; i++) {
        double mean = 0;
        for (int j = 0; j < s; j++) mean += p[j] / sum * image[(int64_t)j * 3 * c + 2 * c + head * d + i];
        y[(int64_t)row * c + head * d + i] = mean;
    }
}

void ref_attention(int n, int s, int c, int heads, const double *qkv, double *y)
{
    double *p = malloc((size_t)s * sizeof *p);
    if (!p) abort();
    for (int b = 0; b < n; b++)
        for (int head = 0; head < heads; head++)
            for (int row = 0; row < s; row++)
                attend(qkv + (int64_t)b * s * 3 * c, s, c, c / heads, head, row, p, y + (int64_t)b * s * c);
    free(p);
}

void ref_time_embed(int n, int dim, bool flip_sin_to_cos, const double *t, const double *freq, double *y)
{
    const int half = dim / 2;
    for (int b = 0; b < n; b++)
        for (int i = 0; i < half; i++) {
            const double angle = (double)(float)(t[b] * freq[i]);
            double *row = y + (int64_t)b * dim;
            if (dim % 2) row[dim - 1] = 0;
            row[i] = flip_sin_to_cos ? cos(angle) : sin(angle);
            row[half + i] = flip_sin_to_cos ? sin(angle) : cos(angle);
        }
}

void ref_relu(int64_t count, const double *x, double *y)
{
    for (int64_t i = 0; i < count; i++) y[i] = fmax(x[i], 0);
}

void ref_concat(int rows, int c1, int c2, const double *x, const double *x2, double *y)
{
    for (int r = 0; r < rows; r++)
        for (int i = 0; i < c1 + c2; i++) y[r * (c1 + c2) + i] = i < c1 ? x[r * c1 + i] : x2[r * c2 + i - c1];
}

void ref_affine(int64_t count, double scale, double shift, const double *x, double *y)
{
    for (int64_t i = 0; i < count; i++) y[i] = scale * x[i] + shift;
}

void ref_dropout(int n, int d, double rate, uint32_t layer, const train_state *state, const double *x, double *y)
{
    for (int b = 0; b < n; b++)
        for (int i = 0; i < d; i++) {
            const uint64_t sample = state->sample + (uint64_t)b;
            const philox4 words = noise_bits(state->seed, NOISE_DROPOUT + layer, (uint32_t)sample,
                                             (uint32_t)(sample >> 32), (uint32_t)(i / 8));
            const int64_t at = (int64_t)b * d + i;
            const uint32_t word = words.v[i % 4], bits = i % 8 < 4 ? word % 65536 : word / 65536;
            y[at] = bits < floor(rate * 65536) ? 0 : x[at] / (1 - rate);
        }
}
