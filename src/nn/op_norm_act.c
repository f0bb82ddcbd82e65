/* op_norm_act.c - group normalization, SiLU and dropout over one or two sources, conditioned on the time. */
#include "nn/nn.h"
#include "ir/operands.h"

static bool check(plan *p, const nn_norm_args *a, int64_t c)
{
    const tensor *x = a->x, *x2 = a->x2;
    if (x2 && (x2->n != x->n || x2->h != x->h || x2->w != x->w))
        return plan_fail(
            p, DDPM_EINVAL,
            "%s: cannot concatenate a %lldx%lld image and a %lldx%lld skip; use a size that every level halves exactly",
            a->name, (long long)x->h, (long long)x->w, (long long)x2->h, (long long)x2->w);
    if (a->groups < 1 || c % a->groups)
        return plan_fail(p, DDPM_EINVAL, "%s: %lld channels are not divisible into %d groups", a->name, (long long)c,
                         a->groups);
    const int64_t width = a->kind == COND_SCALE_SHIFT ? 2 * c : c;
    if (a->cond && (a->cond->n != x->n || a->cond->c != width))
        return plan_fail(p, DDPM_EINVAL, "%s: the conditioning has shape [%lld, %lld]; [%lld, %lld] is required",
                         a->name, (long long)a->cond->n, (long long)a->cond->c, (long long)x->n, (long long)width);
    if (a->state && !(a->dropout >= 0 && a->dropout < 1))
        return plan_fail(p, DDPM_EINVAL, "%s: dropout: probability %g is not in [0, 1)", a->name, (double)a->dropout);
    return true;
}

tensor *nn_norm_act(plan *p, const nn_norm_args *a)
{
    if (!a->x || !plan_ok(p)) return NULL;
    const int64_t c = a->x->c + (a->x2 ? a->x2->c : 0);
    if (!check(p, a, c)) return NULL;
    const layer_rows rows = {a->name, c};
    const param_spec ones = {.rank = 1, .h = 1, .w = 1, .c = 1, .init = INIT_ONES};
    const param_spec zeros = {.rank = 1, .h = 1, .w = 1, .c = 1, .init = INIT_ZEROS};
    tensor *gamma = plan_param(p, &rows, 1, "weight", &ones), *beta = plan_param(p, &rows, 1, "bias", &zeros);
    tensor *y = plan_act(p, a->name, a->x->n, a->x->h, a->x->w, c);
    tensor *mean = plan_act_f32(p, "mean", a->x->n, 1, 1, a->groups), *rstd = plan_like(p, mean, "rstd");
    plan_push(p, "%s", a->name);
    step *s = plan_emit(p, OP_norm_act);
    plan_pop(p);
    s->in[NORM_X] = a->x, s->in[NORM_X2] = a->x2, s->in[NORM_GAMMA] = gamma, s->in[NORM_BETA] = beta;
    s->in[NORM_COND] = a->cond, s->in[NORM_STATE] = a->state;
    s->out[NORM_Y] = y, s->out[NORM_MEAN] = mean, s->out[NORM_RSTD] = rstd;
    s->a.norm.groups = a->groups;
    s->a.norm.eps = (float)a->eps;
    s->a.norm.silu = a->silu;
    s->a.norm.cond = a->cond ? a->kind : COND_NONE;
    s->a.norm.dropout = a->dropout;
    s->a.norm.dropout_layer = a->dropout_layer;
    return y;
}

void norm_act_vjp(plan *p, step *f)
{
    step *s = plan_emit(p, OP_norm_act_bwd);
    s->a = f->a;
    s->in[NORM_BWD_DY] = f->out[NORM_Y]->grad;
    s->in[NORM_BWD_X] = f->in[NORM_X], s->in[NORM_BWD_X2] = f->in[NORM_X2];
    s->in[NORM_BWD_GAMMA] = f->in[NORM_GAMMA], s->in[NORM_BWD_BETA] = f->in[NORM_BETA];
    s->in[NORM_BWD_COND] = f->in[NORM_COND], s->in[NORM_BWD_STATE] = f->in[NORM_STATE];
    s->in[NORM_BWD_MEAN] = f->out[NORM_MEAN], s->in[NORM_BWD_RSTD] = f->out[NORM_RSTD];
    plan_grad_out(p, s, NORM_BWD_DX, f->in[NORM_X]);
    plan_grad_out(p, s, NORM_BWD_DX2, f->in[NORM_X2]);
    plan_grad_out(p, s, NORM_BWD_DGAMMA, f->in[NORM_GAMMA]);
    plan_grad_out(p, s, NORM_BWD_DBETA, f->in[NORM_BETA]);
    plan_grad_out(p, s, NORM_BWD_DCOND, f->in[NORM_COND]);
}

/* Statistics, normalization and SiLU count one operation each: about 10 per element, 20 in the backward pass. */
double norm_act_flops(const step *s) { return 10 * (double)tensor_count(s->out[NORM_Y]); }
double norm_act_bwd_flops(const step *s) { return 20 * (double)tensor_count(s->in[NORM_BWD_DY]); }
