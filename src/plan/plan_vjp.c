/* plan_vjp.c - reverse-mode differentiation: each op appends its own backward steps, last op first. */
#include "ir/operands.h"
#include "plan/plan.h"

#include <string.h>

const vjp_fn op_vjp[OP_COUNT] = {
#define OP(name, vjp, flops, flags) [OP_##name] = vjp,
#include "ir/ops.def"
#undef OP
};

void vjp_none(plan *p, step *forward) { plan_fail(p, DDPM_EINVAL, "%s has no backward pass", op_name[forward->op]); }

void vjp_stop(plan *p, step *forward) { (void)p, (void)forward; }

static tensor *new_grad(plan *p, const tensor *x)
{
    char name[NAME_CAP];
    (void)snprintf(name, sizeof name, "d.%.*s", NAME_CAP - 3, x->name);
    tensor *g = x->arena == ARENA_PARAM ? plan_arena(p, ARENA_GRAD, "d", 1) : plan_like(p, x, "d");
    if (!g) return NULL;
    memcpy(g->name, name, sizeof name);
    g->n = x->n, g->h = x->h, g->w = x->w, g->c = x->c;
    g->keep = x->arena == ARENA_IO; /* requested with plan_want_grad() */
    return g;
}

static tensor *grad_of(plan *p, tensor *x)
{
    if (x->grad) return x->grad;
    if (!x->base) return x->grad = new_grad(p, x);
    tensor *whole = grad_of(p, x->base);
    return x->grad = plan_columns(p, whole, x->column, x->c);
}

grad_slot plan_grad(plan *p, tensor *x)
{
    if (!x || !x->needs_grad || !plan_ok(p)) return (grad_slot){0};
    if (x->arena == ARENA_PARAM && x->grad &&
        x->grad_written) { /* gradients of parameters are completed in any order */
        plan_fail(p, DDPM_EINVAL, "%s is a parameter of two layers; its gradients cannot be added", x->name);
        return (grad_slot){0};
    }
    const bool first = !x->grad_written && !(p->add_grads && x->arena == ARENA_PARAM);
    const grad_slot slot = {grad_of(p, x), first ? 0 : 1};
    x->grad_written = true;
    return slot;
}

bool plan_grad_out(plan *p, step *s, int i, tensor *x)
{
    const grad_slot slot = plan_grad(p, x);
    for (int k = 0; k < STEP_OUT && slot.t; k++)
        if (s->out[k] == slot.t)
            plan_fail(p, DDPM_EINVAL, "%s: %s has it as two operands: copy one", x->name, op_name[s->op]);
    s->out[i] = slot.t;
    s->accumulate |= slot.add << i;
    return slot.t != NULL;
}

void plan_grad_pass(plan *p, tensor *x, tensor *dy)
{
    if (!x || !dy || !x->needs_grad) return;
    /* Only the backward steps of one op read dy, and they come before this point: from here on dy can serve as the
     * gradient of x.  An input must not be accumulated into. */
    if (!x->grad_written && !x->base && x->arena == ARENA_ACT && dy->arena == ARENA_ACT && !dy->base) {
        x->grad = dy;
        x->grad_written = true;
        return;
    }
    if (x->base || dy->base) {
        plan_fail(p, DDPM_EINVAL, "%s: the gradient of a range of columns cannot be shared", x->name);
        return;
    }
    step *s = plan_emit(p, OP_copy);
    s->in[0] = dy;
    plan_grad_out(p, s, 0, x);
}

static step *last_writer(plan *p, const tensor *t)
{
    for (int i = p->n_step - 1; i >= 0; i--)
        for (int k = 0; k < STEP_OUT; k++)
            if (p->steps[i]->out[k] == t) return p->steps[i];
    return NULL;
}

void plan_bias_grad(plan *p, step *s, int i, const tensor *dy, tensor *bias)
{
    step *norm = p->be->bias_sums ? last_writer(p, dy) : NULL;
    if (norm && (op_flag[norm->op] & OP_SUMS_BIAS)) {
        const bool first = norm->out[NORM_BWD_DX] == dy;
        const int outs[] = {first ? NORM_BWD_DBIAS : NORM_BWD_DBIAS2,
                            first ? NORM_BWD_DBIAS_TWIN : NORM_BWD_DBIAS2_TWIN};
        for (int k = 0; k < 2; k++) { /* the first is taken already if the outputs of two convolutions were added */
            if (norm->out[outs[k]]) continue;
            plan_grad_out(p, norm, outs[k], bias);
            return;
        }
    }
    plan_grad_out(p, s, i, bias);
}

void plan_want_grad(plan *p, tensor *x)
{
    if (x) x->needs_grad = true;
}

static bool wants_grad(tensor *t)
{
    if (!t) return false;
    if (t->base) t->needs_grad = t->base->needs_grad;
    return t->needs_grad;
}

/* Tensors that depend on no parameter and no input with plan_want_grad() need no gradient and no backward steps. */
static void mark_needs_grad(plan *p)
{
    for (int i = 0; i < p->n_forward; i++) {
        step *s = p->steps[i];
        bool need = false;
        for (int k = 0; k < STEP_IN; k++) need |= wants_grad(s->in[k]);
        need &= op_vjp[s->op] != vjp_stop;
        for (int k = 0; k < STEP_OUT; k++)
            if (s->out[k]) s->out[k]->needs_grad |= need;
    }
}

/* The gradient of a matrix with column views is complete only if every column has one. */
static bool grad_is_complete(plan *p, const tensor *t)
{
    if (t->grad_written) return true;
    int64_t columns = 0;
    for (int i = 0; i < p->n_tensor; i++)
        if (p->tensors[i]->base == t && p->tensors[i]->grad_written) columns += p->tensors[i]->c;
    if (columns != 0 && columns != t->c)
        plan_fail(p, DDPM_EINVAL, "%s: only %lld of %lld columns have a gradient", t->name, (long long)columns,
                  (long long)t->c);
    return columns == t->c;
}

void plan_differentiate(plan *p, tensor *root, tensor *seed)
{
    if (!root || !plan_ok(p)) return;
    if (!p->training) {
        plan_fail(p, DDPM_EINVAL, "a plan created without `training` cannot be differentiated");
        return;
    }
    p->n_forward = p->n_step;
    mark_needs_grad(p);
    if (seed) root->grad = seed, root->grad_written = true;
    for (int i = p->n_forward - 1; i >= 0 && plan_ok(p); i--) {
        step *s = p->steps[i];
        if (s->out[0] != root && !grad_is_complete(p, s->out[0])) continue;
        memcpy(p->path, s->path, sizeof p->path);
        op_vjp[s->op](p, s);
    }
    p->path[0] = '\0';
    if (p->recompute) plan_recompute(p);
}
