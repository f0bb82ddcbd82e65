/* op_fixture.h - one op of cases.def, run forward and backward on a backend and differentiated in double.
 *
 * Operands and the gradient of the output are pseudo-random and depend only on the case; every value is a float.  A
 * failing call fails the running test with its message. */
#ifndef DDPM_OP_FIXTURE_H
#define DDPM_OP_FIXTURE_H
#include "support/op_case.h"

/* What the memory of a gradient holds before the backward pass. */
typedef enum op_grad_init {
    OP_GRAD_NAN,   /* reading it is an error */
    OP_GRAD_RANDOM /* op_initial_grad() */
} op_grad_init;

typedef struct op_options {
    int threads;
    bool unpacked; /* no two activations share memory */
    op_grad_init grad_init;
    unsigned wanted;     /* bit k: compute the gradient of input k; those of the parameters are always computed */
    unsigned accumulate; /* bit k: add the gradient of operand k to its initial value instead of replacing the value */
} op_options;

typedef struct op_result {
    int n_operand, n_input;
    int64_t y_count, count[OP_OPERANDS];
    float *y;
    float *grad[OP_OPERANDS]; /* NULL: not computed */
    int n_activation;         /* images of the op that are activations, and their gradients */
    int n_blocked;            /* how many of these have the blocked layout */
} op_result;

op_result op_run(const op_case *c, const op_options *o);
void op_result_free(op_result *r);
double op_initial_grad(int k, int64_t i); /* element i of the gradient of operand k, with OP_GRAD_RANDOM */

/* The same case in double. */
typedef struct op_exact {
    op_case c;
    int n_operand;
    int64_t y_count, count[OP_OPERANDS];
    double *operand[OP_OPERANDS], *y, *dy;
} op_exact;

op_exact op_exact_create(const op_case *c);
void op_exact_free(op_exact *x);
/* Computes y from the current operands. */
void op_exact_run(op_exact *x);
/* d sum(y dy) / ds of operand k + s direction at s = 0, by the 4-point central difference. */
double op_exact_slope(op_exact *x, int k, const double *direction);

#endif
