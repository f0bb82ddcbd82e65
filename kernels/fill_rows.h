/* fill_rows.h - initializes the result of a matrix product with a bias in every row and a residual.
 *
 *   y[r, i] = bias[i] + residual[r, i],   where NULL counts as 0 */
#ifndef DDPM_FILL_ROWS_H
#define DDPM_FILL_ROWS_H
#include "row_tiles.h"

typedef struct fill_rows_args {
    void *y; /* [rows, c]  of `type` */
    storage type;
    const float *bias;    /* [c]        NULL: none */
    const void *residual; /* [rows, c]  of `type`, may be y.  NULL: none */
    int64_t rows, c;      /* >= 1; c < 2^30 */
} fill_rows_args;

C_API ddpm_status k_fill_rows(void *stream, const fill_rows_args *a); /* asynchronous */

#endif
