/* column_sum.h - sums of the columns of a matrix: the gradient of a bias.
 *
 *   partial[b, i] = sum over the rows r of block b of x[r, i]
 *
 * Sums within a block of rows are in float; grad_sums.h adds the blocks.  The order depends on the shape only. */
#ifndef DDPM_COLUMN_SUM_H
#define DDPM_COLUMN_SUM_H
#include "row_tiles.h"
#include <stddef.h>

typedef struct column_sum_args {
    const void *x; /* [rows, c]  of `type` */
    storage type;
    int64_t rows, c; /* >= 1; c < 2^30 */
    float *partial;  /* [column_sum_panel(rows, c).down, c], column_sum_bytes(rows, c) bytes, aligned to 16 */
} column_sum_args;

enum { COLUMN_SUM_TURNS = 8, COLUMN_SUM_BLOCKS = 512 }; /* minimum of tiles per block; maximum of blocks in y */

HD panel column_sum_panel(int64_t rows, int64_t c) { return panel_of(rows, c, COLUMN_SUM_TURNS, COLUMN_SUM_BLOCKS); }

static inline size_t column_sum_bytes(int64_t rows, int64_t c)
{
    return (size_t)column_sum_panel(rows, c).down * (size_t)c * sizeof(float);
}

C_API ddpm_status k_column_sum(void *stream, const column_sum_args *a); /* asynchronous */

#endif
