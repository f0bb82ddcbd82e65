/* plan_recompute.c - activations that the backward pass makes again instead of keeping them.
 *
 * Of a resnet's activations half are outputs of norm_act and dropout: cheap to make, and in the backward pass
 * only the gradient of the next convolution's filter reads them.  What they are made of is kept anyway, for
 * the norm's own backward step.  So each is made a second time just before its first reader there, by the very
 * step that made it, to the same bits, and the first copy dies in the forward pass (Chen et al. 2016,
 * arXiv:1604.06174, with the cheap layers between two convolutions as the segments). */
#include "base/mem.h"
#include "ir/operands.h"
#include "plan/plan.h"

#include <string.h>

typedef struct remake {
    plan *p;
    int n_step;        /* of the plan before any was added */
    tensor **of, **by; /* [n]: a forward activation, and what stands for it in the backward pass */
    int n;
    int *before; /* [steps added]: the step that the added one shall precede */
} remake;

static step *cheap_maker(const plan *p, const tensor *t)
{
    if (!t || t->keep || t->arena != ARENA_ACT) return NULL;
    for (int i = 0; i < p->n_forward; i++) {
        step *s = p->steps[i];
        if ((s->op == OP_norm_act || s->op == OP_dropout) && s->out[0] == t) return s;
    }
    return NULL;
}

static bool backward_reads(const plan *p, const tensor *t)
{
    for (int i = p->n_forward; i < p->n_step; i++)
        for (int k = 0; k < STEP_IN; k++)
            if (p->steps[i]->in[k] == t) return true;
    return false;
}

/* Bytes of the activations that would not be kept. */
static size_t saved_bytes(const plan *p)
{
    size_t bytes = 0;
    for (int i = 0; i < p->n_forward; i++) {
        const tensor *t = p->steps[i]->out[0];
        if (cheap_maker(p, t) == p->steps[i] && backward_reads(p, t)) bytes += p->be->fn->tensor_bytes(p->be, t);
    }
    return bytes;
}

/* The tensor that step `before` of the backward pass shall read in place of t: t itself where it is kept. */
static tensor *made_again(remake *r, tensor *t, int before)
{
    plan *p = r->p;
    const step *f = cheap_maker(p, t);
    if (!f) return t;
    for (int i = 0; i < r->n; i++)
        if (r->of[i] == t) return r->by[i];
    step copy = *f;
    if (f->op == OP_dropout) copy.in[POINT_X] = made_again(r, f->in[POINT_X], before);
    for (int k = 0; k < STEP_OUT; k++) copy.out[k] = f->out[k] ? plan_like(p, f->out[k], f->out[k]->name) : NULL;
    copy.recomputed = true;
    *plan_emit(p, f->op) = copy;
    if (!plan_ok(p)) return t;
    r->before[p->n_step - 1 - r->n_step] = before;
    r->of[r->n] = t, r->by[r->n++] = copy.out[0];
    return copy.out[0];
}

/* The added steps stand at the end, in the order of the steps they shall precede. */
static void merge(remake *r, step **all)
{
    plan *p = r->p;
    int n = 0;
    for (int i = 0, added = r->n_step; i < r->n_step; i++) {
        while (added < p->n_step && r->before[added - r->n_step] == i) all[n++] = p->steps[added++];
        all[n++] = p->steps[i];
    }
    memcpy(p->steps, all, (size_t)n * sizeof(step *));
}

void plan_recompute(plan *p)
{
    remake r = {.p = p, .n_step = p->n_step};
    step **all = NULL;
    if (saved_bytes(p) < p->recompute_least) return;
    const size_t room = (size_t)p->n_forward; /* each forward step is made again at most once */
    p->path[0] = '\0';
    if (!plan_ok(p) || mem_array(&r.of, room, sizeof(tensor *), "plan", &p->first) != DDPM_OK ||
        mem_array(&r.by, room, sizeof(tensor *), "plan", &p->first) != DDPM_OK ||
        mem_array(&r.before, room, sizeof *r.before, "plan", &p->first) != DDPM_OK ||
        mem_array(&all, room + (size_t)p->n_step, sizeof(step *), "plan", &p->first) != DDPM_OK)
        goto done;
    for (int i = p->n_forward; i < r.n_step; i++)
        for (int k = 0; k < STEP_IN; k++) {
            tensor *again = made_again(&r, p->steps[i]->in[k], i);
            p->steps[i]->in[k] = again; /* the list may have moved */
        }
    if (plan_ok(p)) merge(&r, all);
done:
    mem_free(r.of);
    mem_free(r.by);
    mem_free(r.before);
    mem_free(all);
}
