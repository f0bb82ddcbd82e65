/* concat.h - concatenation of two images along the channels, and the gradients of both.
 *
 *   y[r, i]   = x[r, i] for i < c1,   x2[r, i - c1] for i >= c1
 *   dx[r, i]  (=, +=) dy[r, i],       dx2[r, i] (=, +=) dy[r, c1 + i] */
#ifndef DDPM_CONCAT_H
#define DDPM_CONCAT_H
#include "storage.h"

typedef struct concat_args {
    const void *x, *x2;   /* [rows, c1], [rows, c2] */
    void *y;              /* [rows, c1 + c2], overlaps neither x nor x2 */
    storage type;         /* of x, x2 and y */
    int64_t rows, c1, c2; /* >= 1; c1 + c2 < 2^28 */
} concat_args;

typedef struct concat_bwd_args {
    const void *dy; /* [rows, c1 + c2] */
    void *dx, *dx2; /* [rows, c1], [rows, c2]; NULL: not needed */
    storage type;   /* of dy, dx and dx2 */
    int64_t rows, c1, c2;
    int add, add2; /* += instead of = */
} concat_bwd_args;

/* The bits of one element, and of one aligned vector access: 4 floats or 8 bf16. */
typedef uint32_t concat_float;
typedef uint16_t concat_bf16;
typedef struct __attribute__((aligned(16))) concat_line {
    uint32_t v[4];
} concat_line;

HD uint32_t concat_sum_floats(uint32_t a, uint32_t b)
{
    float x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    x += y;
    memcpy(&a, &x, sizeof a);
    return a;
}

HD uint16_t concat_sum_bf16(uint16_t a, uint16_t b)
{
    const bf16 x = {a}, y = {b};
    return bf16_of(bf16_to_f32(x) + bf16_to_f32(y)).bits;
}

/* The elementwise sum of two vectors of `type`; the first bf16 of a word is its lower half. */
HD concat_line concat_sum_lines(concat_line a, concat_line b, storage type)
{
    for (int k = 0; k < 4; k++) {
        const uint32_t low = concat_sum_bf16((uint16_t)a.v[k], (uint16_t)b.v[k]),
                       high = concat_sum_bf16((uint16_t)(a.v[k] >> 16), (uint16_t)(b.v[k] >> 16));
        a.v[k] = type == STORE_F32 ? concat_sum_floats(a.v[k], b.v[k]) : high << 16 | low;
    }
    return a;
}

C_API ddpm_status k_concat(void *stream, const concat_args *a);         /* asynchronous */
C_API ddpm_status k_concat_bwd(void *stream, const concat_bwd_args *a); /* asynchronous */

#endif
