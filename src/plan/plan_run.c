/* plan_run.c - runs a plan on its backend: allocation, input, steps, output. */
#include "plan/plan.h"
#include "base/arith.h"
#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#define HIDE(at, bytes) ASAN_POISON_MEMORY_REGION(at, bytes)
#define SHOW(at, bytes) ASAN_UNPOISON_MEMORY_REGION(at, bytes)
enum { CHECKED = 1 };
#else
#define HIDE(at, bytes) ((void)(at), (void)(bytes))
#define SHOW(at, bytes) ((void)(at), (void)(bytes))
enum { CHECKED = 0 };
#endif

static void bind(plan *p)
{
    for (int i = 0; i < p->n_tensor; i++) {
        tensor *t = p->tensors[i];
        if (t->base || (t->arena != ARENA_IO && t->arena != ARENA_ACT)) continue;
        t->data = t->first < 0 && !t->keep ? NULL : (char *)p->memory[t->arena] + t->offset;
    }
    for (int i = 0; i < p->n_tensor; i++) {
        tensor *t = p->tensors[i];
        if (t->base) t->data = (char *)t->base->data + (size_t)t->column * dtype_size(t->dtype);
    }
}

/* For tests on a device, with DDPM_POISON set: fills the activations with NaN, as checked builds do in host memory. */
static ddpm_status poison(plan *p, err *e)
{
    enum { PIECE = 1 << 20 };
    char *nan = NULL;
    ddpm_status st = DDPM_OK;
    if (!getenv("DDPM_POISON")) return DDPM_OK;
    TRY(mem_array(&nan, PIECE, 1, "memory", e));
    memset(nan, 0xff, PIECE);
    for (size_t at = 0; at < p->bytes[ARENA_ACT] && st == DDPM_OK; at += PIECE)
        st = p->be->fn->upload(p->be, (char *)p->memory[ARENA_ACT] + at, nan,
                               (size_t)min_i64(PIECE, (int64_t)(p->bytes[ARENA_ACT] - at)), e);
    mem_free(nan);
    return st;
}

ddpm_status plan_allocate(plan *p, err *e)
{
    const arena_kind own[] = {ARENA_IO, ARENA_ACT};
    for (int i = 0; i < 2; i++) {
        if (p->memory[own[i]]) continue;
        TRY(p->be->fn->alloc(p->be, p->bytes[own[i]] + MEM_ALIGN, &p->memory[own[i]], e));
    }
    /* In checked builds no step may rely on activations that were never written: fill them with NaN. */
    p->checked &= CHECKED && p->be->fn->host_memory;
    if (CHECKED && p->be->fn->host_memory) memset(p->memory[ARENA_ACT], 0xff, p->bytes[ARENA_ACT]);
    TRY(poison(p, e));
    bind(p);
    p->ran_with.version = 0;
    return DDPM_OK;
}

static void reveal(const tensor *t, bool visible)
{
    if (!t) return;
    if (t->base) t = t->base;
    if (t->arena != ARENA_ACT) return;
    const size_t bytes = (size_t)tensor_count(t) * dtype_size(t->dtype);
    if (visible)
        SHOW(t->data, bytes);
    else
        HIDE(t->data, bytes);
}

static void reveal_operands(const step *s, bool visible)
{
    for (int k = 0; k < STEP_IN; k++) reveal(s->in[k], visible);
    for (int k = 0; k < STEP_OUT; k++) reveal(s->out[k], visible);
    reveal(s->scratch, visible);
    reveal(s->partial, visible);
}

/* Under AddressSanitizer, a step may access only its own operands in the arena. */
static ddpm_status run_checked(plan *p, int from, int to, err *e)
{
    ddpm_status st = DDPM_OK;
    HIDE(p->memory[ARENA_ACT], p->bytes[ARENA_ACT]);
    for (int i = from; i < to && st == DDPM_OK; i++) {
        reveal_operands(p->steps[i], true);
        st = p->be->fn->run(p->be, &p->steps[i], 1, 1, e);
        reveal_operands(p->steps[i], false);
    }
    SHOW(p->memory[ARENA_ACT], p->bytes[ARENA_ACT] + MEM_ALIGN);
    return st;
}

static ddpm_status run_range(plan *p, int from, int to, int times, err *e)
{
    if (!p->checked) return p->be->fn->run(p->be, p->steps + from, to - from, times, e);
    for (int i = 0; i < times; i++) TRY(run_checked(p, from, to, e));
    return DDPM_OK;
}

/* Runs the steps that read weights alone, if the weights are not those that these steps ran with. */
static ddpm_status run_steps_of_weights(plan *p, err *e)
{
    if (p->n_of_weights == 0) return DDPM_OK;
    const tensor *w = p->steps[0]->in[0];
    const uint64_t version = w->version ? *w->version : 0;
    if (version != 0 && version == p->ran_with.version && w->data == p->ran_with.data) return DDPM_OK;
    p->ran_with.version = 0; /* also after a failure */
    TRY(run_range(p, 0, p->n_of_weights, 1, e));
    p->ran_with.version = version, p->ran_with.data = w->data;
    return DDPM_OK;
}

ddpm_status plan_run_times(plan *p, int times, err *e)
{
    if (!p->memory[ARENA_ACT]) return err_set(e, DDPM_EINVAL, "the memory of the plan is not allocated");
    TRY(run_steps_of_weights(p, e));
    return run_range(p, p->n_of_weights, p->n_step, times, e);
}

ddpm_status plan_run(plan *p, err *e) { return plan_run_times(p, 1, e); }

ddpm_status plan_write(plan *p, tensor *t, const void *from_host, err *e)
{
    return p->be->fn->upload(p->be, t->data, from_host, (size_t)tensor_count(t) * dtype_size(t->dtype), e);
}

ddpm_status plan_read(plan *p, const tensor *t, void *to_host, err *e)
{
    return p->be->fn->download(p->be, to_host, t->data, (size_t)tensor_count(t) * dtype_size(t->dtype), e);
}
