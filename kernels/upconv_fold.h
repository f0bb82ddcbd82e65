/* upconv_fold.h - the filter that does nearest x2 and a 3x3 convolution in one go, and its gradient.
 *
 * An output pixel of the pair sees 2x2 distinct input pixels only.  So the pair is one 4x4 transposed
 * convolution of stride 2 and padding 1,
 *
 *   y[n, 2i + a - 1, 2j + b - 1, co] += x[n, i, j, ci] K[ci, a, b, co]
 *
 * with K[ci, :, :, co] = A W[co, :, :, ci] A^T, and the gradient dW = A^T dK A:
 *
 *         0 0 1
 *     A = 0 1 1
 *         1 1 0
 *         1 0 0
 *
 * Row a of A marks the filter rows through which y's row 2i + a - 1 sees either copy, 2i or 2i + 1, of x's
 * row i. */
#ifndef DDPM_UPCONV_FOLD_H
#define DDPM_UPCONV_FOLD_H
#include "storage.h"

typedef struct upconv_fold_args {
    const float *w; /* [cout, 3, 3, cin] */
    void *k;        /* [cin, 4, 4, cout]  of `type` */
    storage type;
    int cout, cin; /* >= 1 */
} upconv_fold_args;

typedef struct upconv_unfold_args {
    const void *dk; /* [cin, 4, 4, cout]  of `type` */
    storage type;
    float *dw;      /* [cout, 3, 3, cin] */
    int accumulate; /* dw += instead of dw = */
    int cout, cin;  /* >= 1 */
} upconv_unfold_args;

/* The product of A and a column of three; the product of its transpose and a column of four. */
HD void fold_up(const float *w, float *k)
{
    k[0] = w[2];
    k[1] = w[1] + w[2];
    k[2] = w[0] + w[1];
    k[3] = w[0];
}

HD void fold_down(const float *k, float *w)
{
    w[0] = k[2] + k[3];
    w[1] = k[1] + k[2];
    w[2] = k[0] + k[1];
}

C_API ddpm_status k_upconv_fold(void *stream, const upconv_fold_args *a);     /* asynchronous */
C_API ddpm_status k_upconv_unfold(void *stream, const upconv_unfold_args *a); /* asynchronous */

#endif
