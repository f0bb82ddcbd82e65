/* plan_recompute.c - gradient checkpointing: the backward pass recomputes activations instead of keeping them.
 *
 * Half of the activations of a resnet are outputs of norm_act (OP_CHEAP): they are cheap to compute, and
 * in the backward pass only the filter gradient of the next convolution reads them.  Their inputs are kept anyway,
 * for the norm's own backward step.  So each is recomputed just before its first reader in the backward pass, by a
 * copy of the forward step with bitwise equal results, and the original is freed during the forward pass (Chen et
 * al. 2016, arXiv:1604.06174, with the cheap layers between two convolutions as the segments). */
#include "base/mem.h"
#include "plan/plan.h"

#include <string.h>

typedef struct remake {
    plan *p;
    int n_step;        /* steps of the plan before any was added */
    tensor **of, **by; /* [n]: a forward activation, and its replacement in the backward pass */
    int n;
    int *before; /* [steps added]: the step before which to insert each added step */
} remake;

static step *cheap_maker(const plan *p, const tensor *t)
{
    if (!t || t->keep || t->arena != ARENA_ACT) return NULL;
    for (int i = 0; i < p->n_forward; i++) {
        step *s = p->steps[i];
        if ((op_flag[s->op] & OP_CHEAP) && s->out[0] == t) return s;
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

/* Bytes of the activations that recomputing would not keep. */
static size_t saved_bytes(const plan *p)
{
    size_t bytes = 0;
    for (int i = 0; i < p->n_forward; i++) {
        const tensor *t = p->steps[i]->out[0];
        if (cheap_maker(p, t) == p->steps[i] && backward_reads(p, t)) bytes += p->be->fn->tensor_bytes(p->be, t);
    }
    return bytes;
}

/* The tensor that step `before` of the backward pass reads in place of t: t itself if it is kept. */
static tensor *recomputed(remake *r, tensor *t, int before)
{
    plan *p = r->p;
    const step *f = cheap_maker(p, t);
    if (!f) return t;
    for (int i = 0; i < r->n; i++)
        if (r->of[i] == t) return r->by[i];
    step copy = *f;
    for (int k = 0; k < STEP_IN; k++) copy.in[k] = recomputed(r, f->in[k], before);
    for (int k = 0; k < STEP_OUT; k++) copy.out[k] = f->out[k] ? plan_like(p, f->out[k], f->out[k]->name) : NULL;
    copy.recomputed = true;
    *plan_emit(p, f->op) = copy;
    if (!plan_ok(p)) return t;
    r->before[p->n_step - 1 - r->n_step] = before;
    r->of[r->n] = t, r->by[r->n++] = copy.out[0];
    return copy.out[0];
}

/* Inserts the added steps, which are at the end of the list and sorted by their position. */
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
    const size_t room = (size_t)p->n_forward; /* each forward step is recomputed at most once */
    p->path[0] = '\0';
    if (!plan_ok(p) || mem_array(&r.of, room, sizeof(tensor *), "plan", &p->first) != DDPM_OK ||
        mem_array(&r.by, room, sizeof(tensor *), "plan", &p->first) != DDPM_OK ||
        mem_array(&r.before, room, sizeof *r.before, "plan", &p->first) != DDPM_OK ||
        mem_array(&all, room + (size_t)p->n_step, sizeof(step *), "plan", &p->first) != DDPM_OK)
        goto done;
    for (int i = p->n_forward; i < r.n_step; i++)
        for (int k = 0; k < STEP_IN; k++) {
            tensor *copy = recomputed(&r, p->steps[i]->in[k], i);
            p->steps[i]->in[k] = copy; /* a separate statement: recomputed() may reallocate p->steps */
        }
    if (plan_ok(p)) merge(&r, all);
done:
    mem_free(r.of);
    mem_free(r.by);
    mem_free(r.before);
    mem_free(all);
}
