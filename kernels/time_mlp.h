/* time_mlp.h - the timestep embedding and the two linear layers behind it, in one launch.
 *
 *   h0 = time_embed(t)   h1 = silu(W1 h0 + b1)   y = silu(W2 h1 + b2),   silu(z) = z / (1 + e^-z)
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), appendix B; time_embed.h
 *
 * Sums are in float; h0, h1 and y are rounded to `type` before further use, as if loaded from memory.  Eight threads
 * share a column of the sums, so every row of y is bitwise the same for any n and any distribution over blocks.
 *
 * A block computes h0 and h1 of `rows` rows in shared memory and then `share` columns of y: it reads all of W1, and
 * width / parts rows of W2.  All blocks together read
 *
 *   ceil(n / rows) (parts dim width + width^2)   weights from L2: n = 128, dim 128, width 512, bf16: 24 MiB
 *
 * in 128 blocks of 192 KiB each.  A matrix product reads every weight once for many more rows, so for wide layers
 * this kernel loses more time than the saved launches give: the limit is TIME_MLP_WIDEST (n = 128, dim 512, width
 * 2048, bf16: 768 MiB).  That limit is calculated, not measured. */
#ifndef DDPM_TIME_MLP_H
#define DDPM_TIME_MLP_H
#include "pointwise.h"
#include "time_embed.h"

typedef struct time_mlp_args {
    const float *t;       /* [n]        as in time_embed_args */
    const float *freq;    /* [dim / 2]  */
    const void *w1, *w2;  /* [width, dim], [width, width]  of `type` */
    const float *b1, *b2; /* [width] */
    void *y;              /* [n, width]  of `type` */
    void *h0, *h1;        /* [n, dim], [n, width]  of `type`; NULL: neither these nor pre1 and pre2 are needed */
    float *pre1, *pre2;   /* [n, width]  inputs of silu */
    int n, dim, width;    /* dim >= 2; odd: the last column of h0 is 0; upper limits: time_mlp_cut_of() */
    int flip_sin_to_cos;
    storage type;
} time_mlp_args;

enum {
    TIME_MLP_WIDEST = 1536,     /* largest dim + width for which this kernel is used */
    TIME_MLP_SHARED = 48 << 10, /* maximum bytes of shared memory per block */
    TIME_MLP_ROWS = 8,
    TIME_MLP_PARTS = 8,
    TIME_MLP_COLUMNS = 64, /* columns of y that a block computes at a time */
    TIME_MLP_RUN = 128     /* weights of a row loaded at a time: rows in shared memory are padded to a multiple */
};

typedef struct time_mlp_cut {
    int rows;         /* rows per block: 1, 2, 4 or 8 */
    int parts, share; /* blocks per group of rows, and the columns of y of each */
    size_t shared;    /* bytes; over TIME_MLP_SHARED: too wide even for one row: dim + width of about 12288 or more */
} time_mlp_cut;

HD int time_mlp_padded(int k) { return (k + TIME_MLP_RUN - 1) / TIME_MLP_RUN * TIME_MLP_RUN; }

static inline time_mlp_cut time_mlp_cut_of(int n, int dim, int width)
{
    const size_t row = sizeof(float) * ((size_t)time_mlp_padded(dim) + (size_t)time_mlp_padded(width));
    time_mlp_cut cut;
    cut.rows = TIME_MLP_ROWS;
    while (cut.rows > 1 && (cut.rows / 2 >= n || (size_t)cut.rows * row > TIME_MLP_SHARED)) cut.rows /= 2;
    const int turns = (width + TIME_MLP_COLUMNS - 1) / TIME_MLP_COLUMNS;
    cut.share = (turns + TIME_MLP_PARTS - 1) / TIME_MLP_PARTS * TIME_MLP_COLUMNS;
    cut.parts = (width + cut.share - 1) / cut.share;
    cut.shared = (size_t)cut.rows * row;
    return cut;
}

C_API ddpm_status k_time_mlp(void *stream, const time_mlp_args *a); /* asynchronous */

#endif
