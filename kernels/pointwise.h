/* pointwise.h - elementwise functions and their gradients.
 *
 *   copy      y = x                          (also converts between storage types)
 *   affine    y = scale x + shift
 *   relu      y = max(x, 0)
 *   relu_bwd  y = x where other > 0, else 0            x = dy, other = output of relu
 *   silu      y = x s(x),  s(z) = 1 / (1 + e^-z)
 *   silu_bwd  y = x s(z) (1 + z (1 - s(z)))            x = dy, other = z, input of silu
 *   Elfwing, Uchibe & Doya 2017 (arXiv:1702.03118), eq. 4 and 5 */
#ifndef DDPM_POINTWISE_H
#define DDPM_POINTWISE_H
#include "math/elementary.h"
#include "storage.h"

typedef enum pointwise_kind {
    POINT_KIND_COPY,
    POINT_KIND_AFFINE,
    POINT_KIND_RELU,
    POINT_KIND_RELU_BWD,
    POINT_KIND_SILU,
    POINT_KIND_SILU_BWD
} pointwise_kind;

typedef struct pointwise_args {
    pointwise_kind kind;
    const void *x, *other; /* [count]  other: for the two gradients only */
    void *y;               /* [count]  may be x or other if the types are the same */
    storage x_type, other_type, y_type;
    int64_t count;      /* >= 1 */
    int accumulate;     /* y += instead of y = */
    float scale, shift; /* of affine */
} pointwise_args;

HD float silu(float z) { return z / (1.0f + exp_f32(-z)); }
HD float silu_slope(float z)
{
    const float s = 1.0f / (1.0f + exp_f32(-z));
    return s * (1.0f + z * (1.0f - s));
}

/* f(x).  `kind` is a->kind, a parameter so that compilers can specialize on a constant. */
HD float pointwise_value(const pointwise_args *a, pointwise_kind kind, float x, float other)
{
    switch (kind) {
    case POINT_KIND_AFFINE: return a->scale * x + a->shift;
    case POINT_KIND_RELU: return x > 0.0f ? x : 0.0f;
    case POINT_KIND_RELU_BWD: return other > 0.0f ? x : 0.0f;
    case POINT_KIND_SILU: return silu(x);
    case POINT_KIND_SILU_BWD: return x * silu_slope(other);
    case POINT_KIND_COPY: break;
    }
    return x;
}

C_API ddpm_status k_pointwise(void *stream, const pointwise_args *a); /* asynchronous */

#endif
