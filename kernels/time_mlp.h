/* time_mlp.h - the embedding of the timestep and the two layers behind it, in one launch.
 *
 *   h0 = time_embed(t)   h1 = silu(W1 h0 + b1)   y = silu(W2 h1 + b2),   silu(z) = z / (1 + e^-z)
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), appendix B; time_embed.h
 *
 * Sums are in float; h0, h1 and y are rounded to `type` before they are used further, as if they came
 * from memory.  Eight threads share a column of the sums, so every row of y is the same to the bit
 * whatever n is, and however the work is cut.
 *
 * A block makes h0 and h1 of `rows` rows in shared memory and then `share` columns of their y: it reads W1
 * whole, and width / parts rows of W2.  All blocks together read
 *
 *   ceil(n / rows) (parts dim width + width^2)   weights from L2: n = 128, dim 128, width 512, bf16: 24 MiB
 *
 * in 128 blocks of 192 KiB each.  A matrix product reads every weight once for many more rows, so where the
 * layers are wide this loses more than its launches were worth: TIME_MLP_WIDEST (n = 128, dim 512,
 * width 2048, bf16: 768 MiB).  That border is counted, not measured. */
#ifndef DDPM_TIME_MLP_H
#define DDPM_TIME_MLP_H
#include "pointwise.h"
#include "time_embed.h"

typedef struct time_mlp_args {
    const float *t;       /* [n]        as time_embed_args */
    const float *freq;    /* [dim / 2]  */
    const void *w1, *w2;  /* [width, dim], [width, width]  of `type` */
    const float *b1, *b2; /* [width] */
    void *y;              /* [n, width]  of `type` */
    void *h0, *h1;        /* [n, dim], [n, width]  of `type`; NULL: not wanted, nor pre1 and pre2 */
    float *pre1, *pre2;   /* [n, width]  what silu was given */
    int n, dim, width;    /* dim >= 2, odd: the last column of h0 is 0; time_mlp_cut_of() says how wide */
    int flip_sin_to_cos;
    storage type;
} time_mlp_args;

enum {
    TIME_MLP_WIDEST = 1536,     /* dim + width up to which it is used */
    TIME_MLP_SHARED = 48 << 10, /* bytes a block takes at most */
    TIME_MLP_ROWS = 8,
    TIME_MLP_PARTS = 8,
    TIME_MLP_COLUMNS = 64, /* of y at a time in a block */
    TIME_MLP_RUN = 128     /* weights of a row that are loaded at a time: rows in shared memory are padded to it */
};

typedef struct time_mlp_cut {
    int rows;         /* of a block: 1, 2, 4 or 8 */
    int parts, share; /* blocks to a row, and the columns of y of each */
    size_t shared;    /* bytes; more than TIME_MLP_SHARED: too wide for one row, dim + width > 12288 or nearly */
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
