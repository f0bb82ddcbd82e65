/* op_linear.c - matrices: the time embedding's layers and the projections of it into every block. */
#include "ops/nn.h"
#include "plan/operands.h"

tensor *nn_linear(plan *p, const nn_linear_args *a)
{
    if (!a->x || !plan_ok(p)) return NULL;
    const layer_rows one = {a->name, a->cout}, *rows = a->rows ? a->rows : &one;
    const int n_rows = a->rows ? a->n_rows : 1;
    const param_spec weight = {
        .rank = 2, .h = 1, .w = 1, .c = a->x->c, .fan_in = (int)a->x->c, .fan_out_per_row = 1, .init = a->init};
    const param_spec bias = {.rank = 1, .h = 1, .w = 1, .c = 1, .init = INIT_ZEROS};
    tensor *w = plan_param(p, rows, n_rows, "weight", &weight), *b = plan_param(p, rows, n_rows, "bias", &bias);
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

void linear_vjp(plan *p, step *f)
{
    step *s = plan_emit(p, OP_linear_bwd);
    s->a = f->a;
    s->in[LINEAR_BWD_DY] = f->out[LINEAR_Y]->grad;
    s->in[LINEAR_BWD_X] = f->in[LINEAR_X], s->in[LINEAR_BWD_W] = f->in[LINEAR_W];
    s->in[LINEAR_BWD_PRE] = f->out[LINEAR_PRE];
    plan_grad_out(p, s, LINEAR_BWD_DX, f->in[LINEAR_X]);
    plan_grad_out(p, s, LINEAR_BWD_DW, f->in[LINEAR_W]);
    plan_grad_out(p, s, LINEAR_BWD_DBIAS, f->in[LINEAR_BIAS]);
}

double linear_flops(const step *s) { return 2 * (double)tensor_count(s->in[LINEAR_W]) * (double)s->out[LINEAR_Y]->n; }
double linear_bwd_flops(const step *s)
{
    return (s->out[LINEAR_BWD_DX] ? 4 : 2) * (double)tensor_count(s->in[LINEAR_BWD_W]) *
           (double)s->in[LINEAR_BWD_DY]->n;
}
