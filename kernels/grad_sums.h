/* grad_sums.h - the final sums of parameter gradients: of all steps of a backward pass in a few launches.
 *
 *   to[i] (=, +=) sum over r of from[r, i]
 *
 * The kernels of a backward pass leave partial sums (over one image, or over a block of rows) or a gradient in bf16.
 * Nothing reads the gradients of parameters before the optimizer, so their sums can wait until then.
 * Sums are in double, in an order that depends on `rows` only. */
#ifndef DDPM_GRAD_SUMS_H
#define DDPM_GRAD_SUMS_H
#include "storage.h"

typedef struct grad_sum {
    const void *from; /* [rows, count] of `type`, rows ld elements apart */
    float *to;        /* [count] */
    int rows, count;  /* >= 1 */
    int ld;
    storage type;
    int add; /* to += instead of to = */
} grad_sum;

enum {
    GRAD_SUMS_LAUNCH = 80,    /* sums per launch: the table must fit into the 4 KB of a kernel's parameters */
    GRAD_SUMS_COLUMNS = 32,   /* per block, if there is more than one row */
    GRAD_SUMS_ELEMENTS = 4096 /* per block, if there is one row */
};

/* Asynchronous; a launch for every GRAD_SUMS_LAUNCH sums, which must not overlap. */
C_API ddpm_status k_grad_sums(void *stream, const grad_sum *sums, int n);

#endif
