/* plan_memory.c - lifetimes of tensors, and their offsets in the arenas.
 *
 * Activations are placed greedily by size: the largest first, each at the lowest offset that is free during its
 * lifetime (Pisarchyk & Lee 2020, arXiv:2001.03288, "greedy by size"). */
#include "base/mem.h"
#include "base/arith.h"
#include "plan/plan.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

static size_t aligned(const plan *p, size_t bytes)
{
    const size_t to = p->be->fn->alignment;
    return round_up_size(bytes, to);
}

static void touch(tensor *t, int i)
{
    if (!t) return;
    if (t->base) {
        touch(t->base, i);
        return;
    }
    if (t->first < 0) t->first = i;
    if (i > t->last) t->last = i;
}

/* The first step after step i that reads gradients of parameters, or the end of the list. */
static int reader_of_gradients(const plan *p, int i)
{
    int reader = i + 1;
    while (reader < p->n_step && !(op_flag[p->steps[reader]->op] & OP_UPDATE)) reader++;
    return reader;
}

/* A step on the side stream may overlap the steps after it, so its operands stay alive for SIDE_WINDOW steps. */
static void find_lifetimes(plan *p)
{
    for (int i = 0; i < p->n_step; i++) {
        step *s = p->steps[i];
        for (int at = i; at <= (s->side ? i + SIDE_WINDOW : i); at += SIDE_WINDOW) {
            for (int k = 0; k < STEP_IN; k++) touch(s->in[k], at);
            for (int k = 0; k < STEP_OUT; k++) touch(s->out[k], at);
            touch(s->scratch, at);
        }
        if (!s->partial) continue;
        touch(s->partial, i);
        touch(s->partial, reader_of_gradients(p, i));
    }
    for (int i = 0; i < p->n_tensor; i++)
        if (p->tensors[i]->keep || !p->packed) p->tensors[i]->first = 0, p->tensors[i]->last = INT_MAX;
}

static int larger_first(const void *a, const void *b)
{
    const tensor *x = *(tensor *const *)a, *y = *(tensor *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    if (x->first != y->first) return x->first < y->first ? -1 : 1;
    return x->offset < y->offset ? -1 : x->offset > y->offset; /* offset holds the tensor's index until it is placed */
}

static int by_offset(const void *a, const void *b)
{
    const tensor *x = *(tensor *const *)a, *y = *(tensor *const *)b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Lowest offset with room for t among the placed tensors whose lifetimes overlap its own. */
static size_t lowest_gap(const tensor *t, tensor **placed, int n, tensor **alive)
{
    int m = 0;
    for (int i = 0; i < n; i++)
        if (placed[i]->first <= t->last && t->first <= placed[i]->last) alive[m++] = placed[i];
    qsort(alive, (size_t)m, sizeof *alive, by_offset);
    size_t at = 0;
    for (int i = 0; i < m; i++) {
        if (alive[i]->offset >= at + t->bytes) break;
        const size_t end = alive[i]->offset + alive[i]->bytes;
        if (end > at) at = end;
    }
    return at;
}

ddpm_status plan_layout(plan *p, err *e)
{
    tensor **act = NULL, **alive = NULL;
    int n = 0;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(mem_array(&act, (size_t)p->n_tensor, sizeof *act, "memory plan", e));
    TRY_GOTO(mem_array(&alive, (size_t)p->n_tensor, sizeof *alive, "memory plan", e));
    find_lifetimes(p);
    p->bytes[ARENA_IO] = p->bytes[ARENA_ACT] = p->unpacked_bytes = 0;
    for (int i = 0; i < p->n_tensor; i++) {
        tensor *t = p->tensors[i];
        if (t->base) continue;
        t->bytes = aligned(p, p->be->fn->tensor_bytes(p->be, t));
        if (t->arena == ARENA_IO) {
            t->offset = p->bytes[ARENA_IO];
            p->bytes[ARENA_IO] += t->bytes;
        } else if (t->arena == ARENA_ACT && t->first >= 0) {
            t->offset = (size_t)i;
            p->unpacked_bytes += t->bytes;
            act[n++] = t;
        }
    }
    qsort(act, (size_t)n, sizeof *act, larger_first);
    for (int i = 0; i < n; i++) {
        act[i]->offset = lowest_gap(act[i], act, i, alive);
        if (act[i]->offset + act[i]->bytes > p->bytes[ARENA_ACT]) p->bytes[ARENA_ACT] = act[i]->offset + act[i]->bytes;
    }
done:
    mem_free(act);
    mem_free(alive);
    return st;
}
