/* op_concat.c - concatenation of two images along the channels. */
#include "nn/nn.h"
#include "ir/operands.h"

tensor *nn_concat(plan *p, tensor *x, tensor *x2)
{
    if (!x || !x2 || !plan_ok(p)) return NULL;
    if (x2->n != x->n || x2->h != x->h || x2->w != x->w)
        return plan_fail(p, DDPM_EINVAL,
                         "concat: cannot concatenate a %lldx%lld image and a %lldx%lld skip; use a size that every "
                         "level halves exactly",
                         (long long)x->h, (long long)x->w, (long long)x2->h, (long long)x2->w);
    tensor *y = plan_act(p, "concat", x->n, x->h, x->w, x->c + x2->c);
    plan_push(p, "concat");
    step *s = plan_emit(p, OP_concat);
    plan_pop(p);
    s->in[CONCAT_X] = x, s->in[CONCAT_X2] = x2;
    s->out[CONCAT_Y] = y;
    return y;
}

void concat_vjp(plan *p, step *f)
{
    step *s = plan_emit(p, OP_concat_bwd);
    s->in[CONCAT_BWD_DY] = f->out[CONCAT_Y]->grad;
    plan_grad_out(p, s, CONCAT_BWD_DX, f->in[CONCAT_X]);
    plan_grad_out(p, s, CONCAT_BWD_DX2, f->in[CONCAT_X2]);
}
