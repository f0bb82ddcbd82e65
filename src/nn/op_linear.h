/* op_linear.h - what ops that contain linear layers share. */
#ifndef DDPM_OP_LINEAR_H
#define DDPM_OP_LINEAR_H
#include "nn/nn.h"

typedef struct linear_params {
    tensor *weight, *bias; /* [cout, cin], [cout]; NULL after an error */
} linear_params;
linear_params linear_declare(plan *p, const layer_rows *rows, int n_rows, int64_t cin, param_init init);

typedef struct linear_layer {
    tensor *x, *weight, *bias, *y;
    tensor *pre; /* with silu: what it was given */
    bool silu;
} linear_layer;
/* Append the step that makes the gradients of what x, weight and bias need from y's. */
void linear_backward(plan *p, const linear_layer *l);

#endif
