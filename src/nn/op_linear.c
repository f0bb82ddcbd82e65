/* op_linear.c - linear layers: the projections of the time embedding in every block, and others. */
#include "nn/op_linear.h"
#include "ir/operands.h"

linear_params linear_declare(plan *p, const layer_rows *rows, int n_rows, int64_t cin, param_init init)
{
    const param_spec weight = {
        .rank = 2, .h = 1, .w = 1, .c = cin, .fan_in = (int)cin, .fan_out_per_row = 1, .init = init};
    const param_spec bias = {.rank = 1, .h = 1, .w = 1, .c = 1, .init = INIT_ZEROS};
    tensor *w = plan_param(p, rows, n_rows, "weight", &weight), *b = plan_param(p, rows, n_rows, "bias", &bias);
    return (linear_params){w, b};
}

tensor *nn_linear(plan *p, const nn_linear_args *a)
{
    if (!a->x || !plan_ok(p)) return NULL;
    const layer_rows one = {a->name, a->cout}, *rows = a->rows ? a->rows : &one;
    const linear_params l = linear_declare(p, rows, a->rows ? a->n_rows : 1, a->x->c, a->init);
    tensor *w = l.weight, *b = l.bias;
    if (!w || !b) return NULL;
    tensor *y = plan_act(p, rows[0].name, a->x->n, 1, 1, w->n);
    if (!y) return NULL;
    plan_push(p, "%s", rows[0].name);
    step *s = plan_emit(p, OP_linear);
    plan_pop(p);
    s->in[LINEAR_X] = a->x, s->in[LINEAR_W] = w, s->in[LINEAR_BIAS] = b;
    s->out[LINEAR_Y] = y;
    s->out[LINEAR_PRE] = a->silu && p->training ? plan_act_f32(p, "pre", y->n, 1, 1, y->c) : NULL;
    s->a.linear.silu = a->silu;
    return y;
}

void linear_backward(plan *p, const linear_layer *l)
{
    step *s = plan_emit(p, OP_linear_bwd);
    s->a.linear.silu = l->silu;
    s->in[LINEAR_BWD_DY] = l->y->grad;
    s->in[LINEAR_BWD_X] = l->x, s->in[LINEAR_BWD_W] = l->weight;
    s->in[LINEAR_BWD_PRE] = l->pre;
    plan_grad_out(p, s, LINEAR_BWD_DX, l->x);
    plan_grad_out(p, s, LINEAR_BWD_DW, l->weight);
    plan_grad_out(p, s, LINEAR_BWD_DBIAS, l->bias);
}

void linear_vjp(plan *p, step *f)
{
    linear_backward(p, &(linear_layer){.x = f->in[LINEAR_X],
                                       .weight = f->in[LINEAR_W],
                                       .bias = f->in[LINEAR_BIAS],
                                       .y = f->out[LINEAR_Y],
                                       .pre = f->out[LINEAR_PRE],
                                       .silu = f->a.linear.silu});
}

double linear_flops(const step *s) { return 2 * (double)tensor_count(s->in[LINEAR_W]) * (double)s->out[LINEAR_Y]->n; }
double linear_bwd_flops(const step *s)
{
    return (s->out[LINEAR_BWD_DX] ? 4 : 2) * (double)tensor_count(s->in[LINEAR_BWD_W]) *
           (double)s->in[LINEAR_BWD_DY]->n;
}
