/* column_sum.h - sums of the columns of a matrix: the gradient of a bias.
 *
 *   sums[i] = sum over r of x[r, i]
 *
 * Sums within a block of rows are in float, the sum of the blocks in double; the order depends on the shape only. */
#ifndef DDPM_COLUMN_SUM_H
#define DDPM_COLUMN_SUM_H
#include "row_tiles.h"
#include <stddef.h>

typedef struct column_sum_args {
    const void *x; /* [rows, c]  of `type` */
    storage type;
    int64_t rows, c; /* >= 1; c < 2^30 */
    float *sums;     /* [c] */
    int accumulate;  /* sums += instead of sums = */
    float *partial;  /* workspace of column_sum_scratch(rows, c) bytes, aligned to 16 */
} column_sum_args;

enum { COLUMN_SUM_TURNS = 8, COLUMN_SUM_BLOCKS = 512 }; /* minimum of tiles per block; maximum of blocks in y */

HD panel column_sum_panel(int64_t rows, int64_t c) { return panel_of(rows, c, COLUMN_SUM_TURNS, COLUMN_SUM_BLOCKS); }

/* Bytes of partial [down, c]. */
static inline size_t column_sum_scratch(int64_t rows, int64_t c)
{
    return (size_t)column_sum_panel(rows, c).down * (size_t)c * sizeof(float);
}

C_API ddpm_status k_column_sum(void *stream, const column_sum_args *a); /* asynchronous */

#endif
