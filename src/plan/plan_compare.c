#include "plan/plan_compare.h"
#include "base/mem.h"

#include <math.h>
#include <string.h>

enum { OPERANDS = STEP_IN + STEP_OUT };

/* A tensor of the plan, not a view, as the reference sees it: in host memory, bf16 as f32. */
typedef struct mirror {
    const tensor *of;
    tensor host;
    float *after; /* the result of the plan's step, as f32; NULL: not a result that is compared */
} mirror;

/* A step of the plan and its copy for the reference. */
typedef struct pair {
    backend *be, *reference;
    const step *s;
    step copy;
    mirror whole[OPERANDS];
    tensor view[OPERANDS], scratch;
    int n_whole, n_view;
} pair;

static const tensor *whole_of(const tensor *t) { return t->base ? t->base : t; }

/* Copies of the weights in another type; the reference uses the weights themselves. */
static bool is_copy(const tensor *t) { return t->arena == ARENA_PARAM_LOW || t->arena == ARENA_EMA_LOW; }

static bool is_float(const tensor *t) { return t->dtype == DTYPE_F32 || t->dtype == DTYPE_BF16; }

/* Reads a tensor of the plan; *values: f32, or bytes of other types. */
static ddpm_status read_tensor(backend *be, const tensor *t, void *values, err *e)
{
    const size_t n = (size_t)tensor_count(t);
    if (t->dtype != DTYPE_BF16) return be->fn->download(be, values, t->data, n * dtype_size(t->dtype), e);
    uint16_t *halves = (uint16_t *)values + n; /* the upper half of the memory, so that widening in order is safe */
    TRY(be->fn->download(be, halves, t->data, n * sizeof *halves, e));
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = (uint32_t)halves[i] << 16;
        memcpy((float *)values + i, &bits, sizeof bits);
    }
    return DDPM_OK;
}

static size_t host_bytes(const tensor *t)
{
    return (size_t)tensor_count(t) * (is_float(t) ? sizeof(float) : dtype_size(t->dtype)) + MEM_ALIGN;
}

static ddpm_status add_whole(pair *p, const tensor *t, mirror **out, err *e)
{
    for (int i = 0; i < p->n_whole; i++)
        if (p->whole[i].of == t) {
            *out = &p->whole[i];
            return DDPM_OK;
        }
    mirror *m = &p->whole[p->n_whole++];
    *m = (mirror){.of = t, .host = *t};
    m->host.dtype = t->dtype == DTYPE_BF16 ? DTYPE_F32 : t->dtype;
    m->host.layout = LAYOUT_NHWC;
    m->host.version = NULL; /* derived data of the weights is computed anew */
    m->host.data = NULL;
    TRY(p->reference->fn->alloc(p->reference, host_bytes(t), &m->host.data, e));
    m->host.low = m->host.data;
    *out = m;
    return t->data ? read_tensor(p->be, t, m->host.data, e) : DDPM_OK;
}

static ddpm_status add_operand(pair *p, const tensor *t, tensor **out, err *e)
{
    mirror *m;
    *out = NULL;
    if (!t || is_copy(t)) return DDPM_OK;
    TRY(add_whole(p, whole_of(t), &m, e));
    *out = &m->host;
    if (!t->base) return DDPM_OK;
    tensor *view = *out = &p->view[p->n_view++];
    *view = *t;
    view->dtype = m->host.dtype;
    view->base = &m->host;
    view->data = (float *)m->host.data + t->column;
    return DDPM_OK;
}

static ddpm_status open_pair(pair *p, err *e)
{
    p->copy = *p->s;
    p->copy.impl = NULL;
    p->copy.scratch = p->copy.partial = NULL;
    p->copy.partial_bytes = 0;
    p->copy.side = false;
    for (int k = 0; k < STEP_IN; k++) TRY(add_operand(p, p->s->in[k], &p->copy.in[k], e));
    for (int k = 0; k < STEP_OUT; k++) TRY(add_operand(p, p->s->out[k], &p->copy.out[k], e));
    return DDPM_OK;
}

static void close_pair(pair *p)
{
    p->reference->fn->unprepare(p->reference, &p->copy);
    for (int i = 0; i < p->n_whole; i++) {
        p->reference->fn->release(p->reference, p->whole[i].host.data);
        mem_free(p->whole[i].after);
    }
    p->reference->fn->release(p->reference, p->scratch.data);
}

static ddpm_status run_reference(pair *p, err *e)
{
    size_t bytes = 0;
    step *steps[] = {&p->copy};
    TRY(p->reference->fn->prepare(p->reference, &p->copy, &bytes, e));
    if (bytes) {
        p->scratch = (tensor){.dtype = DTYPE_U8, .n = (int64_t)bytes, .h = 1, .w = 1, .c = 1};
        TRY(p->reference->fn->alloc(p->reference, bytes, &p->scratch.data, e));
        p->copy.scratch = &p->scratch;
    }
    return p->reference->fn->run(p->reference, steps, 1, 1, e);
}

static ddpm_status run_plan(pair *p, err *e)
{
    step *steps[] = {(step *)(uintptr_t)p->s};
    return p->be->fn->run(p->be, steps, 1, 1, e);
}

/* The largest |x - y|, relative to the largest |y|; infinity: only one of the two is finite. */
static float difference(const float *x, const float *y, size_t n)
{
    float off = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) && !isfinite(y[i])) continue;
        off = fmaxf(off, isfinite(x[i]) && isfinite(y[i]) ? fabsf(x[i] - y[i]) : INFINITY);
        if (isfinite(y[i])) largest = fmaxf(largest, fabsf(y[i]));
    }
    return off > 0 ? off / fmaxf(largest, 0x1p-100f) : 0;
}

static ddpm_status compare(pair *p, const tensor *out, plan_bounds bounds, err *e)
{
    const tensor *t = out ? whole_of(out) : NULL;
    if (!t || !t->data || is_copy(t) || !is_float(t)) return DDPM_OK;
    mirror *m = NULL;
    TRY(add_whole(p, t, &m, e));
    if (m->after) return DDPM_OK; /* another view of the same tensor */
    TRY(mem_array(&m->after, (size_t)tensor_count(t), sizeof *m->after, "comparison", e));
    TRY(read_tensor(p->be, t, m->after, e));
    const float off = difference(m->after, m->host.data, (size_t)tensor_count(t));
    if (off <= (t->dtype == p->be->act ? bounds.low : bounds.f32)) return DDPM_OK;
    return err_set(e, DDPM_EDIVERGED, "%s (%s): %s differs from the result on the %s by %.2g of its largest value",
                   p->s->path, op_name[p->s->op], t->name, p->reference->fn->name, (double)off);
}

ddpm_status plan_compare(const plan *p, backend *reference, plan_bounds bounds, err *e)
{
    for (int i = 0; i < p->n_step; i++) {
        pair here = {.be = p->be, .reference = reference, .s = p->steps[i]};
        ddpm_status st = open_pair(&here, e);
        if (st == DDPM_OK) st = run_reference(&here, e);
        if (st == DDPM_OK) st = run_plan(&here, e);
        for (int k = 0; k < STEP_OUT && st == DDPM_OK; k++) st = compare(&here, here.s->out[k], bounds, e);
        close_pair(&here);
        TRY(st);
    }
    return DDPM_OK;
}
