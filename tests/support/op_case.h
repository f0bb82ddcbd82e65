/* op_case.h - the differentiable lines of cases.def: how to build each in a plan, and the reference of each. */
#ifndef DDPM_OP_CASE_H
#define DDPM_OP_CASE_H
#include "nn/nn.h"
#include "train_state.h"

/* Plain values only, so that a case can be the parameter of a test.  Fields that an op does not use are 0. */
typedef struct op_case {
    op_kind op;
    int n, h, w, c, c2, cout;
    int kernel, stride;
    int groups; /* groups of a norm; heads of attention */
    int cond;   /* norm_cond */
    bool pad_end, residual, silu, columns, dropout, flip_sin_to_cos;
    /* Bit k: input k is an activation of the plan; bit OP_Y_ACTIVATION: the output is one.  A tensor whose bit is not
     * set is an input or output of the plan, in NHWC layout. */
    unsigned activations;
} op_case;

const op_case *op_cases(int *n);                            /* all cases, with activations = 0 */
const char *op_case_text(const op_case *c, char text[160]); /* "norm_act n 3, 5x7, ..."; returns text */

enum { OP_OPERANDS = 6, OP_MARGIN = 2, OP_Y_ACTIVATION = 31 };

/* Does the op take images, so that `activations` means something? */
bool op_takes_images(const op_case *c);
/* Can all images of the op have the blocked layout on the cpu: does the op support it, and do all fill whole blocks? */
bool op_fills_blocks(const op_case *c);
bool op_fills_some_blocks(const op_case *c); /* the same for at least one image */

/* What takes the place of a network around one op.  Operands are the op's inputs in the order of the references'
 * arguments (x, x2, cond ...), then its parameters in the order of their creation. */
typedef struct op_graph {
    plan *p;
    tensor *operand[OP_OPERANDS];
    int n_input, n_operand;
    tensor *activation[OP_OPERANDS]; /* the copy of input k that the op reads; NULL: it reads the input itself */
    tensor *y_activation;            /* the output of the op, of which y is a copy; NULL: the op writes y itself */
    tensor *state;                   /* of dropout */
    tensor *labels;                  /* of class_embed: op_label() */
    tensor *y;
} op_graph;

/* Creates the inputs and appends the op. */
void op_build(const op_case *c, op_graph *g);

/* The label of image b: among the labels of a batch are equal ones, and -1. */
int64_t op_label(const op_case *c, int b);

/* Does the op read element i of operand k?  With `columns`, cond is a range of a matrix that is
 * OP_MARGIN columns wider on each side. */
bool op_reads(const op_case *c, int k, int64_t i);

/* Does the backward pass compute a gradient of operand k? */
bool op_differentiates(const op_case *c, int k);

/* Computes y from the operands' values in double; `state` is for dropout. */
void op_reference(const op_case *c, double *const operand[OP_OPERANDS], const train_state *state, double *y);

enum { DROPOUT_LAYER = 5 };
#define DROPOUT_RATE 0.375f
#define AFFINE_SCALE -1.5f
#define AFFINE_SHIFT 0.25f
#define NORM_EPS     1e-5f

#endif
