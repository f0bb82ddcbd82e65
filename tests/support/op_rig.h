/* op_rig.h - one op of cases.def, run forward and backward on a backend and differentiated in double.
 *
 * Operands and the gradient of the output are drawn from the case alone, every value a float.  A
 * failing call fails the running test with its message. */
#ifndef DDPM_OP_RIG_H
#define DDPM_OP_RIG_H
#include "support/op_case.h"

/* What the memory of a gradient holds before the backward pass. */
typedef enum op_before {
    OP_BEFORE_NAN,   /* reading it is an error */
    OP_BEFORE_RANDOM /* op_before_value() */
} op_before;

typedef struct op_options {
    int threads;
    bool unpacked; /* no two activations share memory */
    op_before before;
    unsigned only; /* bit k: the gradient of input k is wanted; parameters' always are */
    unsigned add;  /* bit k: the gradient of operand k is added to what was there; of an inner one, by the op itself */
} op_options;

typedef struct op_result {
    int n_operand, n_input;
    int64_t y_count, count[OP_OPERANDS];
    float *y;
    float *grad[OP_OPERANDS]; /* NULL: not wanted */
    int n_inner, n_blocked; /* of the op's images that are inner, and of their gradients: all; in blocks of channels */
} op_result;

op_result op_run(const op_case *c, const op_options *o);
void op_result_free(op_result *r);
double op_before_value(int k, int64_t i); /* of operand k's gradient */

/* The same case in double. */
typedef struct op_exact {
    op_case c;
    int n_operand;
    int64_t y_count, count[OP_OPERANDS];
    double *operand[OP_OPERANDS], *y, *dy;
} op_exact;

op_exact op_exact_create(const op_case *c);
void op_exact_free(op_exact *x);
/* y, from the operands as they are. */
void op_exact_run(op_exact *x);
/* d sum(y dy) / ds of operand k + s direction at s = 0, by the 4-point central difference. */
double op_exact_slope(op_exact *x, int k, const double *direction);

#endif
