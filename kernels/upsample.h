/* upsample.h - nearest-neighbour x2 upsampling and its gradient.
 *
 *   forward   y[n, i, j, :]  = x[n, i / 2, j / 2, :]
 *   backward  dx[n, i, j, :] = dy[n, 2i, 2j, :] + dy[n, 2i, 2j + 1, :]
 *                            + dy[n, 2i + 1, 2j, :] + dy[n, 2i + 1, 2j + 1, :] */
#ifndef DDPM_UPSAMPLE_H
#define DDPM_UPSAMPLE_H
#include "storage.h"

typedef struct upsample_args {
    const void *x;  /* forward: x [n, h, w, c];    backward: dy [n, 2h, 2w, c] */
    void *y;        /* forward: y [n, 2h, 2w, c];  backward: dx [n, h, w, c] */
    storage type;   /* of both */
    int n, h, w, c; /* >= 1; h and w of the small image; w * c < 2^31 */
    int accumulate; /* y += instead of y = */
} upsample_args;

C_API ddpm_status k_upsample(void *stream, const upsample_args *a);     /* asynchronous */
C_API ddpm_status k_upsample_bwd(void *stream, const upsample_args *a); /* asynchronous */

#endif
