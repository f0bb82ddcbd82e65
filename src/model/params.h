/* params.h - the weights, by name, outside any plan.
 *
 * Weights, gradients, Adam's moments and the EMA are arenas of one layout, so the optimizer is one
 * pass and "sample from the EMA" is another base pointer.  Plans declare what they need by name;
 * training, evaluation and sampling plans find the same parameters, and a shape that differs is an
 * error that names both. */
#ifndef DDPM_PARAMS_H
#define DDPM_PARAMS_H
#include "io/weights.h"
#include "plan/plan.h"

typedef struct param {
    char name[NAME_CAP];
    int rank;           /* 1, 2 or 4 */
    int64_t n, h, w, c; /* ours: [cout, kh, kw, cin]; a vector is [n,1,1,1] */
    size_t offset;      /* floats into each arena */
    int fan_in, fan_out;
    param_init init;
} param;

typedef struct params {
    backend *be; /* borrowed */
    param *list;
    int n, cap;
    size_t count;             /* floats in an arena, gaps for alignment included (they stay 0) */
    int64_t values;           /* parameters in the usual sense */
    void *arena[ARENA_COUNT]; /* PARAM on; NULL where not allocated */
    uint64_t version;         /* grows with every change of the weights */
    param_folds folds;        /* filters that the backend wants folded */
    /* Copies: PARAM_LOW and PARAM_FOLD of PARAM, EMA_LOW and EMA_FOLD of EMA, whichever the backend wants. */
    bool stale;          /* PARAM was set from outside since its copies were made; adamw keeps them alike */
    uint64_t ema_copied; /* the version that EMA's copies were made from; 0: none */
} params;

DDPM_MUST_CHECK ddpm_status params_create(backend *be, params **out, err *e);
void params_destroy(params *s);

/* Take up every parameter of the plan; the first plan of a model fixes names, shapes and order. */
DDPM_MUST_CHECK ddpm_status params_declare(params *s, const plan *p, err *e);
/* Arenas for the weights; with `training` also gradients and moments; with `ema` the EMA. */
DDPM_MUST_CHECK ddpm_status params_allocate(params *s, bool training, bool ema, err *e);
/* Point the plan's parameters (and their gradients) at the store.  `weights` is ARENA_PARAM or
 * ARENA_EMA.  DDPM_EINVAL: a name the store has not, or a shape that differs. */
DDPM_MUST_CHECK ddpm_status params_bind(params *s, plan *p, arena_kind weights, err *e);

/* Bring the copies of an arena (ARENA_PARAM or ARENA_EMA) up to date before plans that read them run.
 * Nothing to do for a backend that wants none. */
DDPM_MUST_CHECK ddpm_status params_refresh(params *s, arena_kind weights, err *e);
/* What the copies of one arena take, and what params_bind() has yet to allocate of it. */
size_t params_copy_bytes(const params *s);
size_t params_copy_bytes_left(const params *s, arena_kind weights);

const param *params_find(const params *s, const char *name); /* NULL: none */
static inline int64_t param_count(const param *q) { return q->n * q->h * q->w * q->c; }

/* Draw the initial weights: each value depends on the seed, the parameter's name and its own place. */
DDPM_MUST_CHECK ddpm_status params_init(params *s, uint64_t seed, err *e);
/* Say that an arena was written to by another way than params_set(): copies of it are out of date. */
void params_touched(params *s, arena_kind arena);
/* The whole arena to or from host memory of `count` floats. */
DDPM_MUST_CHECK ddpm_status params_get(const params *s, arena_kind arena, float *to, err *e);
DDPM_MUST_CHECK ddpm_status params_set(params *s, arena_kind arena, const float *from, err *e);

/* The whole arena to look at: itself where the backend's memory is the host's, else a copy.  mem_free(*copy),
 * also after a failure. */
DDPM_MUST_CHECK ddpm_status params_view(const params *s, arena_kind arena, float **view, float **copy, err *e);

/* The parameters within `host`, an arena of `count` floats or a copy, under diffusers' names and
 * PyTorch's shapes, as io/weights.h reads and writes them; [s->n], mem_free() it. */
DDPM_MUST_CHECK ddpm_status params_name(const params *s, float *host, named_tensor **out, err *e);
/* One arena to or from a safetensors file.  On failure the arena is as it was. */
DDPM_MUST_CHECK ddpm_status params_load(params *s, arena_kind arena, const char *path, notes *remarks, err *e);
DDPM_MUST_CHECK ddpm_status params_save(const params *s, arena_kind arena, const char *path, err *e);

#endif
