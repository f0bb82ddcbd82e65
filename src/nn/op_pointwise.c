/* op_pointwise.c - elementwise ops: ReLU, affine, copy. */
#include "nn/nn.h"
#include "ir/operands.h"

static tensor *pointwise(plan *p, op_kind op, tensor *x, const step_attr *a)
{
    if (!x || !plan_ok(p)) return NULL;
    tensor *y = plan_like(p, x, op_name[op]);
    plan_push(p, "%s", op_name[op]);
    step *s = plan_emit(p, op);
    plan_pop(p);
    s->in[POINT_X] = x;
    s->out[POINT_Y] = y;
    if (a) s->a = *a;
    return y;
}

tensor *nn_relu(plan *p, tensor *x) { return pointwise(p, OP_relu, x, NULL); }

void relu_vjp(plan *p, step *f)
{
    step *s = plan_emit(p, OP_relu_bwd);
    s->in[RELU_BWD_DY] = f->out[POINT_Y]->grad, s->in[RELU_BWD_Y] = f->out[POINT_Y];
    plan_grad_out(p, s, RELU_BWD_DX, f->in[POINT_X]);
}

tensor *nn_affine(plan *p, tensor *x, float scale, float shift)
{
    return pointwise(p, OP_affine, x, &(step_attr){.affine = {scale, shift}});
}

void affine_vjp(plan *p, step *f)
{
    step *s = plan_emit(p, OP_affine);
    s->a.affine.scale = f->a.affine.scale;
    s->in[POINT_X] = f->out[POINT_Y]->grad;
    plan_grad_out(p, s, POINT_Y, f->in[POINT_X]);
}

tensor *nn_cast(plan *p, tensor *x, dtype to)
{
    if (!x || !plan_ok(p) || x->dtype == to) return x;
    tensor *y = pointwise(p, OP_copy, x, NULL);
    if (y) y->dtype = to;
    return y;
}

tensor *nn_copy(plan *p, tensor *x) { return pointwise(p, OP_copy, x, NULL); }

void copy_vjp(plan *p, step *f)
{
    tensor *x = f->in[POINT_X], *dy = f->out[POINT_Y]->grad;
    if (x->dtype == f->out[POINT_Y]->dtype) {
        plan_grad_pass(p, x, dy);
        return;
    }
    step *s = plan_emit(p, OP_copy);
    s->in[POINT_X] = dy;
    plan_grad_out(p, s, POINT_Y, x);
}
