/* ref_conv.c - references of the convolutions: conv2d and upconv. */
#include "ref/ref_ops.h"

#include <stdlib.h>

int ref_conv_side(const ref_conv *a, int size) { return (size + a->stride - 1) / a->stride; }

/* One value of cat(x, x2), 0 outside the image. */
static double pixel(const ref_conv *a, const double *x, const double *x2, const int at[4])
{
    const int b = at[0], i = at[1], j = at[2], c = at[3];
    if (i < 0 || i >= a->h || j < 0 || j >= a->w) return 0;
    const int64_t place = ((int64_t)b * a->h + i) * a->w + j;
    return c < a->c1 ? x[place * a->c1 + c] : x2[place * a->c2 + c - a->c1];
}

void ref_conv2d(const ref_conv *a, const double *x, const double *x2, const double *weight, const double *bias,
                const double *residual, double *y)
{
    const int oh = ref_conv_side(a, a->h), ow = ref_conv_side(a, a->w), cin = a->c1 + a->c2, k = a->kernel;
    const int before = a->pad_end ? 0 : k / 2;
    int64_t at = 0;
    for (int b = 0; b < a->n; b++)
        for (int i = 0; i < oh; i++)
            for (int j = 0; j < ow; j++)
                for (int o = 0; o < a->cout; o++, at++) {
                    double sum = bias[o] + (residual ? residual[at] : 0);
                    for (int ki = 0; ki < k; ki++)
                        for (int kj = 0; kj < k; kj++)
                            for (int c = 0; c < cin; c++) {
                                const int from[] = {b, i * a->stride + ki - before, j * a->stride + kj - before, c};
                                sum += weight[((o * k + ki) * k + kj) * cin + c] * pixel(a, x, x2, from);
                            }
                    y[at] = sum;
                }
}

void ref_upconv(const ref_conv *a, const double *x, const double *weight, const double *bias, double *y)
{
    ref_conv large = *a;
    large.h = 2 * a->h, large.w = 2 * a->w, large.kernel = 3, large.stride = 1, large.pad_end = false;
    double *twice = malloc((size_t)(large.n * large.h * large.w * large.c1) * sizeof *twice);
    if (!twice) abort();
    int64_t at = 0;
    for (int b = 0; b < a->n; b++)
        for (int i = 0; i < large.h; i++)
            for (int j = 0; j < large.w; j++)
                for (int c = 0; c < a->c1; c++) twice[at++] = x[((b * a->h + i / 2) * a->w + j / 2) * a->c1 + c];
    ref_conv2d(&large, twice, NULL, weight, bias, NULL, y);
    free(twice);
}
