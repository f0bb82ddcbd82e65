/* params.h - the store of parameters by name, shared by all plans of a model.
 *
 * Weights, gradients, Adam's moments and the EMA are arenas of the same layout, so the optimizer is one
 * pass, and sampling from the EMA only changes a base pointer.  Plans declare their parameters by name;
 * training, evaluation and sampling plans find the same ones.  A different shape is an error that names
 * both shapes. */
#ifndef DDPM_PARAMS_H
#define DDPM_PARAMS_H
#include "io/weights.h"
#include "plan/plan.h"

typedef struct param {
    char name[NAME_CAP];
    int rank;           /* 1, 2 or 4 */
    int64_t n, h, w, c; /* shape in our layout: [cout, kh, kw, cin]; a vector is [n,1,1,1] */
    size_t offset;      /* in every arena, in floats */
    int fan_in, fan_out;
    param_init init;
} param;

typedef struct params {
    backend *be; /* borrowed */
    param *list;
    int n, cap;
    size_t count;             /* floats in an arena, including gaps for alignment (they stay 0) */
    int64_t values;           /* number of parameters, without gaps */
    void *arena[ARENA_COUNT]; /* from ARENA_PARAM on; NULL if not allocated */
    uint64_t version;         /* incremented by every change of the weights */
    /* Copies in the backend's activation type, if that is not f32: PARAM_LOW of PARAM, EMA_LOW of EMA. */
    bool stale;          /* PARAM was written since its copy was made, other than by adamw, which updates it */
    uint64_t ema_copied; /* the version that EMA's copy was made from; 0: none */
} params;

DDPM_MUST_CHECK ddpm_status params_create(backend *be, params **out, err *e);
void params_destroy(params *s);

/* Declare every parameter of the plan; the first plan of a model fixes names, shapes and order. */
DDPM_MUST_CHECK ddpm_status params_declare(params *s, const plan *p, err *e);
/* Allocate the arena of weights; with `training` also those of gradients and moments; and those of
 * `averages` (0 .. EMA_MOST) averages of the weights. */
DDPM_MUST_CHECK ddpm_status params_allocate(params *s, bool training, int averages, err *e);
int params_averages(const params *s); /* allocated ones */
/* The arena of average k < EMA_MOST: ARENA_EMA, ARENA_EMA_1, ... */
static inline arena_kind params_average(int k) { return (arena_kind)(ARENA_EMA + k); }
/* Point the plan's parameters (and their gradients) at the store.  `weights` is ARENA_PARAM or
 * ARENA_EMA.  DDPM_EINVAL: a name that is not in the store, or a different shape. */
DDPM_MUST_CHECK ddpm_status params_bind(params *s, plan *p, arena_kind weights, err *e);

/* Update the copy of an arena (ARENA_PARAM or ARENA_EMA) before running plans that read it.
 * No effect for a backend that uses no copy. */
DDPM_MUST_CHECK ddpm_status params_refresh(params *s, arena_kind weights, err *e);
/* Bytes of the copy of an arena, and those that params_bind() has yet to allocate. */
size_t params_copy_bytes(const params *s);
size_t params_copy_bytes_left(const params *s, arena_kind weights);

const param *params_find(const params *s, const char *name); /* NULL: not found */
static inline int64_t param_count(const param *q) { return q->n * q->h * q->w * q->c; }

/* Draw the initial weights: each value depends on the seed, the parameter's name and the element's index. */
DDPM_MUST_CHECK ddpm_status params_init(params *s, uint64_t seed, err *e);
/* Declare that an arena was written other than by params_set(), so that its copies are out of date. */
void params_touched(params *s, arena_kind arena);
/* Mark the parameters of rank 1 (biases, and the weights of norms) in the bitmap that adamw_args.fixed describes. */
size_t params_bitmap_bytes(const params *s);
void params_mark_vectors(const params *s, uint8_t *bitmap);
/* Copy a whole arena to or from host memory of `count` floats. */
DDPM_MUST_CHECK ddpm_status params_get(const params *s, arena_kind arena, float *to, err *e);
DDPM_MUST_CHECK ddpm_status params_set(params *s, arena_kind arena, const float *from, err *e);

/* Read access to a whole arena: *view is the arena itself if the backend computes in host memory, else *copy.  Call
 * mem_free(*copy), also after a failure. */
DDPM_MUST_CHECK ddpm_status params_view(const params *s, arena_kind arena, float **view, float **copy, err *e);

/* Describe the parameters in `host`, an arena of `count` floats or a copy, with diffusers' names and
 * PyTorch's shapes, as io/weights.h reads and writes them; out is [s->n], free with mem_free(). */
DDPM_MUST_CHECK ddpm_status params_name(const params *s, float *host, named_tensor **out, err *e);
/* Load an arena from, or save it to, a safetensors file.  On failure the arena is unchanged. */
DDPM_MUST_CHECK ddpm_status params_load(params *s, arena_kind arena, const char *path, notes *remarks, err *e);
DDPM_MUST_CHECK ddpm_status params_save(const params *s, arena_kind arena, const char *path, err *e);
DDPM_MUST_CHECK ddpm_status params_save_half(const params *s, arena_kind arena, const char *path, err *e); /* in F16 */

#endif
