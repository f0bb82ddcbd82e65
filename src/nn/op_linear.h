/* op_linear.h - shared by the ops that contain linear layers. */
#ifndef DDPM_OP_LINEAR_H
#define DDPM_OP_LINEAR_H
#include "nn/nn.h"

typedef struct linear_params {
    tensor *weight, *bias; /* [cout, cin], [cout]; NULL after an error */
} linear_params;
linear_params linear_declare(plan *p, const layer_rows *rows, int n_rows, int64_t cin, param_init init);

typedef struct linear_layer {
    tensor *x, *weight, *bias, *y;
    tensor *pre; /* with silu: the input of SiLU */
    bool silu;
} linear_layer;
/* Appends the step that computes the gradients of x, weight and bias, as far as they are needed, from the gradient
 * of y. */
void linear_backward(plan *p, const linear_layer *l);

#endif
