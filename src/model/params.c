#include "model/params.h"
#include "base/arith.h"
#include "base/mem.h"
#include "adamw.h"
#include "noise.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

enum { ALIGN_FLOATS = MEM_ALIGN / sizeof(float) };

ddpm_status params_create(backend *be, params **out, err *e)
{
    *out = NULL;
    params *s;
    TRY(mem_array(&s, 1, sizeof *s, "parameters", e));
    s->be = be;
    s->version = 1;
    *out = s;
    return DDPM_OK;
}

void params_destroy(params *s)
{
    if (!s) return;
    for (int a = 0; a < ARENA_COUNT; a++) s->be->fn->release(s->be, s->arena[a]);
    mem_free(s->list);
    mem_free(s);
}

const param *params_find(const params *s, const char *name)
{
    for (int i = 0; i < s->n; i++)
        if (!strcmp(s->list[i].name, name)) return &s->list[i];
    return NULL;
}

/* The parameters that form one tensor are contiguous; only whole tensors are aligned. */
static ddpm_status declare_tensor(params *s, const tensor *t, err *e)
{
    const int64_t row = t->h * t->w * t->c;
    size_t at = round_up_size(s->count, ALIGN_FLOATS);
    for (int i = 0; i < t->n_part; i++) {
        const param_part *part = &t->part[i];
        if (params_find(s, part->name)) return err_set(e, DDPM_EINVAL, "%s: two layers have this name", part->name);
        TRY(mem_grow(&s->list, &s->cap, s->n + 1, sizeof *s->list, "parameters", e));
        param *q = &s->list[s->n++];
        *q = (param){.rank = t->rank, .n = part->rows, .h = t->h, .w = t->w, .c = t->c, .offset = at};
        memcpy(q->name, part->name, sizeof q->name);
        q->fan_in = part->fan_in, q->fan_out = part->fan_out, q->init = part->init;
        at += (size_t)(part->rows * row);
        s->values += part->rows * row;
    }
    s->count = round_up_size(at, ALIGN_FLOATS);
    return DDPM_OK;
}

ddpm_status params_declare(params *s, const plan *p, err *e)
{
    if (s->arena[ARENA_PARAM]) return err_set(e, DDPM_EINVAL, "parameters: already allocated");
    for (int i = 0; i < p->n_tensor; i++)
        if (p->tensors[i]->arena == ARENA_PARAM && p->tensors[i]->n_part > 0) TRY(declare_tensor(s, p->tensors[i], e));
    return DDPM_OK;
}

ddpm_status params_allocate(params *s, bool training, int averages, err *e)
{
    const bool needed[ARENA_COUNT] = {
        [ARENA_PARAM] = true, [ARENA_GRAD] = training, [ARENA_M] = training, [ARENA_V] = training};
    for (int a = 0; a < ARENA_COUNT; a++)
        if ((needed[a] || (a >= ARENA_EMA && a < ARENA_EMA + averages)) && !s->arena[a])
            TRY(s->be->fn->alloc(s->be, (s->count + ALIGN_FLOATS) * sizeof(float), &s->arena[a], e));
    return DDPM_OK;
}

int params_averages(const params *s)
{
    int n = 0;
    while (n < EMA_MOST && s->arena[params_average(n)]) n++;
    return n;
}

_Static_assert((int)ALIGN_FLOATS % (int)ADAMW_BLOCK == 0, "no block has parameters of two tensors");

size_t params_bitmap_bytes(const params *s) { return (size_t)ceil_div((int64_t)s->count, (int64_t)ADAMW_BLOCK * 8); }

void params_mark_vectors(const params *s, uint8_t *bitmap)
{
    memset(bitmap, 0, params_bitmap_bytes(s));
    for (int i = 0; i < s->n; i++) {
        const param *q = &s->list[i];
        const size_t end = q->offset + (size_t)param_count(q);
        for (size_t block = q->offset / ADAMW_BLOCK; q->rank == 1 && block * ADAMW_BLOCK < end; block++)
            bitmap[block / 8] |= (uint8_t)(1u << block % 8);
    }
}

/* ---- copies ---- */

static arena_kind copy_of(arena_kind weights) { return weights == ARENA_EMA ? ARENA_EMA_LOW : ARENA_PARAM_LOW; }

size_t params_copy_bytes(const params *s)
{
    return s->be->act == DTYPE_F32 ? 0 : (s->count + ALIGN_FLOATS) * dtype_size(s->be->act);
}

size_t params_copy_bytes_left(const params *s, arena_kind weights)
{
    return s->arena[copy_of(weights)] ? 0 : params_copy_bytes(s);
}

static ddpm_status allocate_copy(params *s, arena_kind weights, err *e)
{
    if (params_copy_bytes_left(s, weights) == 0) return DDPM_OK;
    if (weights == ARENA_PARAM) s->stale = true;
    if (weights == ARENA_EMA) s->ema_copied = 0;
    return s->be->fn->alloc(s->be, params_copy_bytes(s), &s->arena[copy_of(weights)], e);
}

ddpm_status params_refresh(params *s, arena_kind weights, err *e)
{
    void *low = s->arena[copy_of(weights)];
    if (weights == ARENA_PARAM ? !s->stale : s->ema_copied == s->version) return DDPM_OK;
    if (low) TRY(s->be->fn->convert_weights(s->be, low, s->arena[weights], s->count, e));
    if (weights == ARENA_PARAM) s->stale = false;
    if (weights == ARENA_EMA) s->ema_copied = s->version;
    return DDPM_OK;
}

/* ---- binding ---- */

static ddpm_status bind_param(params *s, tensor *t, arena_kind weights, err *e)
{
    const param *first = NULL;
    for (int i = 0; i < t->n_part; i++) {
        const param_part *part = &t->part[i];
        const param *q = params_find(s, part->name);
        if (!q) return err_set(e, DDPM_EINVAL, "%s: the model has no such parameter", part->name);
        if (q->n != part->rows || q->h != t->h || q->w != t->w || q->c != t->c)
            return err_set(e, DDPM_EINVAL,
                           "%s: the plan has shape [%lld, %lld, %lld, %lld], the model [%lld, %lld, %lld, %lld]",
                           part->name, (long long)part->rows, (long long)t->h, (long long)t->w, (long long)t->c,
                           (long long)q->n, (long long)q->h, (long long)q->w, (long long)q->c);
        if (i == 0) first = q;
    }
    t->offset = first->offset * sizeof(float);
    t->version = &s->version;
    t->data = (char *)s->arena[weights] + t->offset;
    void *low = s->arena[copy_of(weights)];
    t->low = low ? (char *)low + first->offset * dtype_size(s->be->act) : t->data;
    if (!t->grad || t->grad->arena != ARENA_GRAD) return DDPM_OK;
    if (!s->arena[ARENA_GRAD]) return err_set(e, DDPM_EINVAL, "%s: the gradient arena is not allocated", t->name);
    t->grad->offset = t->offset;
    t->grad->data = (char *)s->arena[ARENA_GRAD] + t->offset;
    return DDPM_OK;
}

ddpm_status params_bind(params *s, plan *p, arena_kind weights, err *e)
{
    TRY(allocate_copy(s, weights, e));
    for (int i = 0; i < p->n_tensor; i++) {
        tensor *t = p->tensors[i];
        if (t->n_part > 0) {
            TRY(bind_param(s, t, weights, e));
        } else if (t->arena >= ARENA_PARAM && (size_t)tensor_count(t) == s->count && !t->data) {
            t->data = s->arena[t->arena];
            t->version = &s->version;
            if (!t->data) return err_set(e, DDPM_EINVAL, "%s: the arena is not allocated", t->name);
        }
    }
    return DDPM_OK;
}

/* Half-width of the uniform distribution of a parameter's initial values; 0 for constants. */
static double init_limit(const param *q)
{
    const double fan_avg = 0.5 * (q->fan_in + q->fan_out);
    switch (q->init) {
    case INIT_FAN_AVG: return sqrt(3 / fan_avg);
    case INIT_FAN_AVG_TINY: return sqrt(3e-10 / fan_avg);
    case INIT_FAN_IN: return sqrt(1.0 / q->fan_in);
    case INIT_NORMAL:
    case INIT_ZEROS:
    case INIT_ONES: break;
    }
    return 0;
}

static void draw_normal(uint64_t seed, uint64_t name, int64_t count, float *to)
{
    for (int64_t i = 0; i < count; i += 4) {
        const normal4 z =
            noise_normal4(seed, NOISE_PARAM_INIT, (uint32_t)name, (uint32_t)(name >> 32), (uint32_t)(i / 4));
        for (int k = 0; k < 4 && i + k < count; k++) to[i + k] = z.v[k];
    }
}

static void draw(const param *q, uint64_t seed, float *to)
{
    const uint64_t name = XXH64(q->name, strlen(q->name), 0);
    const double limit = init_limit(q);
    const int64_t count = param_count(q);
    if (q->init == INIT_NORMAL) {
        draw_normal(seed, name, count, to);
        return;
    }
    for (int64_t i = 0; i < count; i += 4) {
        const philox4 bits =
            noise_bits(seed, NOISE_PARAM_INIT, (uint32_t)name, (uint32_t)(name >> 32), (uint32_t)(i / 4));
        for (int k = 0; k < 4 && i + k < count; k++)
            to[i + k] = limit > 0              ? (float)(limit * ((double)bits.v[k] * 0x1p-31 - 1))
                        : q->init == INIT_ONES ? 1.0f
                                               : 0.0f;
    }
}

void params_touched(params *s, arena_kind arena)
{
    s->version++;
    if (arena == ARENA_PARAM) s->stale = true;
}

static ddpm_status init_one(params *s, const param *q, uint64_t seed, float *host, err *e)
{
    draw(q, seed, host);
    for (int k = -1; k < EMA_MOST; k++) {
        float *arena = s->arena[k < 0 ? ARENA_PARAM : params_average(k)];
        if (arena) TRY(s->be->fn->upload(s->be, arena + q->offset, host, (size_t)param_count(q) * sizeof *host, e));
    }
    return DDPM_OK;
}

ddpm_status params_init(params *s, uint64_t seed, err *e)
{
    float *host;
    int64_t largest = 0;
    for (int i = 0; i < s->n; i++)
        if (param_count(&s->list[i]) > largest) largest = param_count(&s->list[i]);
    TRY(mem_array(&host, (size_t)largest, sizeof *host, "initial weights", e));
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < s->n && st == DDPM_OK; i++) st = init_one(s, &s->list[i], seed, host, e);
    params_touched(s, ARENA_PARAM);
    mem_free(host);
    return st;
}

ddpm_status params_view(const params *s, arena_kind arena, float **view, float **copy, err *e)
{
    *copy = NULL;
    *view = s->arena[arena];
    if (s->be->fn->host_memory) return DDPM_OK;
    TRY(mem_array(copy, s->count, sizeof **copy, "weights", e));
    *view = *copy;
    return params_get(s, arena, *copy, e);
}

ddpm_status params_get(const params *s, arena_kind arena, float *to, err *e)
{
    return s->be->fn->download(s->be, to, s->arena[arena], s->count * sizeof(float), e);
}

ddpm_status params_set(params *s, arena_kind arena, const float *from, err *e)
{
    params_touched(s, arena);
    return s->be->fn->upload(s->be, s->arena[arena], from, s->count * sizeof(float), e);
}
