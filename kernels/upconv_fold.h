/* upconv_fold.h - one filter for nearest x2 upsampling and a 3x3 convolution in one operation, and its gradient.
 *
 * An output pixel depends on only 2x2 distinct input pixels.  So both operations together are one 4x4 transposed
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
 * Row a of A marks the filter rows through which row 2i + a - 1 of y depends on row 2i or 2i + 1 of the upsampled
 * image, the two copies of row i of x. */
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

/* fold_up(): k [4] = A w [3]; fold_down(): the product with A^T. */
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
