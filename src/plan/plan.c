#include "plan/plan.h"
#include "base/bytes.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

const char *const op_name[OP_COUNT] = {
#define OP(name, vjp, flops, flags) [OP_##name] = #name,
#include "ir/ops.def"
#undef OP
};

const unsigned op_flag[OP_COUNT] = {
#define OP(name, vjp, flops, flags) [OP_##name] = (flags),
#include "ir/ops.def"
#undef OP
};

ddpm_status plan_create(backend *be, plan **out, err *e)
{
    *out = NULL;
    plan *p;
    TRY(mem_array(&p, 1, sizeof *p, "plan", e));
    p->be = be;
    p->packed = true;
    p->checked = true;
    *out = p;
    return DDPM_OK;
}

void plan_destroy(plan *p)
{
    if (!p) return;
    for (int i = 0; i < p->n_step; i++) {
        p->be->fn->unprepare(p->be, p->steps[i]);
        mem_free(p->steps[i]);
    }
    for (int i = 0; i < p->n_tensor; i++) {
        mem_free(p->tensors[i]->part);
        mem_free(p->tensors[i]);
    }
    for (int a = 0; a < ARENA_COUNT; a++) p->be->fn->release(p->be, p->memory[a]);
    mem_free(p->steps);
    mem_free(p->tensors);
    mem_free(p);
}

void *plan_fail(plan *p, ddpm_status status, const char *fmt, ...)
{
    if (!plan_ok(p)) return NULL;
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    (void)err_set(&p->first, status, "%s%s%s", p->path, p->path[0] ? ": " : "", text);
    return NULL;
}

/* Writes "<path>.<name>" to out[NAME_CAP]; either part may be empty. */
static void join_path(plan *p, char *out, const char *name)
{
    const int n = snprintf(out, NAME_CAP, "%s%s%s", p->path, p->path[0] && name[0] ? "." : "", name);
    if (n >= NAME_CAP) plan_fail(p, DDPM_EINVAL, "layer name too long: %.40s", name);
}

void plan_push(plan *p, const char *fmt, ...)
{
    char name[NAME_CAP], joined[NAME_CAP];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    join_path(p, joined, name);
    if (p->depth == PLAN_DEPTH) {
        plan_fail(p, DDPM_EINVAL, "layers nested more than %d deep", PLAN_DEPTH);
        return;
    }
    p->path_length[p->depth++] = (int)strlen(p->path);
    memcpy(p->path, joined, sizeof joined);
}

void plan_pop(plan *p)
{
    if (p->depth > 0) p->path[p->path_length[--p->depth]] = '\0';
}

static tensor *new_tensor(plan *p, arena_kind arena, dtype d, const char *name, const int64_t dims[4])
{
    if (!plan_ok(p)) return NULL;
    int64_t count = (int64_t)dtype_size(d);
    for (int i = 0; i < 4; i++)
        if (dims[i] < 1 || __builtin_mul_overflow(count, dims[i], &count) || count > INT64_MAX / 8)
            return plan_fail(p, DDPM_EINVAL, "%s: invalid shape [%lld, %lld, %lld, %lld]", name, (long long)dims[0],
                             (long long)dims[1], (long long)dims[2], (long long)dims[3]);
    tensor *t = NULL;
    if (mem_grow(&p->tensors, &p->cap_tensor, p->n_tensor + 1, sizeof(tensor *), "plan", &p->first) != DDPM_OK ||
        mem_array(&t, 1, sizeof *t, "plan", &p->first) != DDPM_OK)
        return NULL;
    t->arena = arena;
    t->dtype = d;
    t->n = dims[0], t->h = dims[1], t->w = dims[2], t->c = dims[3];
    t->first = t->last = -1;
    join_path(p, t->name, name);
    p->tensors[p->n_tensor++] = t;
    return t;
}

tensor *plan_input(plan *p, dtype d, const char *name, int64_t n, int64_t h, int64_t w, int64_t c)
{
    tensor *t = new_tensor(p, ARENA_IO, d, name, (const int64_t[]){n, h, w, c});
    if (t) t->keep = true;
    return t;
}

tensor *plan_act(plan *p, const char *name, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return new_tensor(p, ARENA_ACT, p->be->act, name, (const int64_t[]){n, h, w, c});
}

tensor *plan_act_f32(plan *p, const char *name, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return new_tensor(p, ARENA_ACT, DTYPE_F32, name, (const int64_t[]){n, h, w, c});
}

tensor *plan_act_i64(plan *p, const char *name, int64_t n)
{
    return new_tensor(p, ARENA_ACT, DTYPE_I64, name, (const int64_t[]){n, 1, 1, 1});
}

tensor *plan_like(plan *p, const tensor *t, const char *name)
{
    return t ? new_tensor(p, ARENA_ACT, t->dtype, name, (const int64_t[]){t->n, t->h, t->w, t->c}) : NULL;
}

tensor *plan_columns(plan *p, tensor *base, int64_t column, int64_t c)
{
    if (!base || !plan_ok(p)) return NULL;
    if (base->base || tensor_hw(base) != 1 || column < 0 || c < 1 || column > base->c - c)
        return plan_fail(p, DDPM_EINVAL,
                         "%s: columns [%lld, %lld) require a matrix with these columns, not [%lld, %lld, %lld, %lld]",
                         base->name, (long long)column, (long long)(column + c), (long long)base->n, (long long)base->h,
                         (long long)base->w, (long long)base->c);
    tensor *t = new_tensor(p, base->arena, base->dtype, "columns", (const int64_t[]){base->n, 1, 1, c});
    if (t) t->base = base, t->column = column;
    return t;
}

tensor *plan_arena(plan *p, arena_kind arena, const char *name, int64_t count)
{
    const dtype d = arena >= ARENA_PARAM_LOW ? p->be->act : DTYPE_F32;
    return new_tensor(p, arena, d, name, (const int64_t[]){count, 1, 1, 1});
}

static int64_t total_rows(const layer_rows *rows, int n_rows)
{
    int64_t n = 0;
    for (int i = 0; i < n_rows; i++) n += rows[i].rows;
    return n;
}

tensor *plan_param(plan *p, const layer_rows *rows, int n_rows, const char *leaf, const param_spec *spec)
{
    char name[NAME_CAP];
    (void)snprintf(name, sizeof name, "%s.%s", rows[0].name, leaf);
    tensor *t = new_tensor(p, ARENA_PARAM, DTYPE_F32, name,
                           (const int64_t[]){total_rows(rows, n_rows), spec->h, spec->w, spec->c});
    if (!t || mem_array(&t->part, (size_t)n_rows, sizeof *t->part, "plan", &p->first) != DDPM_OK) return NULL;
    t->n_part = n_rows;
    t->rank = spec->rank;
    t->needs_grad = true;
    for (int i = 0; i < n_rows; i++) {
        param_part *part = &t->part[i];
        (void)snprintf(name, sizeof name, "%s.%s", rows[i].name, leaf);
        join_path(p, part->name, name);
        part->rows = rows[i].rows;
        part->fan_in = spec->fan_in;
        part->fan_out = spec->fan_out_per_row * (int)rows[i].rows;
        part->init = spec->init;
    }
    return t;
}

void plan_keep(plan *p, tensor *t)
{
    if (t) t->keep = true;
}

step *plan_emit(plan *p, op_kind op)
{
    step *s = NULL;
    p->dummy = (step){.op = op};
    if (!plan_ok(p)) return &p->dummy;
    if (mem_grow(&p->steps, &p->cap_step, p->n_step + 1, sizeof(step *), "plan", &p->first) != DDPM_OK ||
        mem_array(&s, 1, sizeof *s, "plan", &p->first) != DDPM_OK)
        return &p->dummy;
    s->op = op;
    memcpy(s->path, p->path, sizeof s->path);
    p->steps[p->n_step++] = s;
    return s;
}

/* Without training, the results of steps that read weights alone are kept from run to run. */
static void hoist_steps_of_weights(plan *p)
{
    if (p->training) return;
    for (int i = 0; i < p->n_step; i++) {
        step *s = p->steps[i];
        if (!(op_flag[s->op] & OP_OF_WEIGHTS)) continue;
        memmove(p->steps + p->n_of_weights + 1, p->steps + p->n_of_weights,
                (size_t)(i - p->n_of_weights) * sizeof(step *));
        p->steps[p->n_of_weights++] = s;
        for (int k = 0; k < STEP_OUT; k++) plan_keep(p, s->out[k]);
    }
}

static ddpm_status arrange(plan *p, err *e)
{
    if (!plan_ok(p)) return err_set(e, p->first.status, "%s", p->first.text);
    if (p->n_forward == 0) p->n_forward = p->n_step;
    if (p->n_of_weights == 0) hoist_steps_of_weights(p);
    return p->be->fn->arrange ? p->be->fn->arrange(p->be, p->steps, p->n_step, e) : DDPM_OK;
}

ddpm_status plan_sketch(plan *p, err *e)
{
    TRY(arrange(p, e));
    return plan_layout(p, e);
}

ddpm_status plan_fits(plan *p, err *e)
{
    char needed[BYTES_CAP], free_now[BYTES_CAP];
    const size_t there = p->be->fn->memory_free(p->be);
    TRY(plan_sketch(p, e));
    const size_t need = p->bytes[ARENA_ACT] + p->bytes[ARENA_IO];
    if (there == 0 || need <= there) return DDPM_OK;
    return err_set(e, DDPM_ENOMEM, "at least %s of memory are needed, but %s are free: use a smaller batch",
                   bytes_text(needed, need), bytes_text(free_now, there));
}

static ddpm_status add_workspace(plan *p, const step *s, const char *name, size_t bytes, tensor **out, err *e)
{
    if (bytes == 0) return DDPM_OK;
    memcpy(p->path, s->path, sizeof p->path);
    *out = plan_act_f32(p, name, (int64_t)(bytes + 3) / 4, 1, 1, 1);
    p->path[0] = '\0';
    return *out ? DDPM_OK : err_set(e, p->first.status, "%s", p->first.text);
}

ddpm_status plan_finish(plan *p, err *e)
{
    TRY(arrange(p, e));
    for (int i = 0; i < p->n_step; i++) {
        step *s = p->steps[i];
        size_t scratch = 0;
        TRY(p->be->fn->prepare(p->be, s, &scratch, e));
        TRY(add_workspace(p, s, "scratch", scratch, &s->scratch, e));
        TRY(add_workspace(p, s, "partial", s->partial_bytes, &s->partial, e));
    }
    TRY(plan_layout(p, e));
    p->finished = true;
    return DDPM_OK;
}
