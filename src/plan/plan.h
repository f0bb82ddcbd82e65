/* plan.h - a network, its backward pass and its memory as one flat list of steps.
 *
 *   build     nn_<op>() calls append steps; names come from the path pushed on the plan
 *   backward  plan_differentiate() lets each op append its own backward steps, last op first
 *   finish    plan_finish() lets the backend prepare every step and lays out all memory
 *   bind      plan_allocate() allocates the memory; params_bind() sets the pointers to the weights
 *   run       plan_run(): one loop, no allocation
 *
 * Errors while building are sticky: the first is kept with its layer path, later calls do nothing, and plan_finish()
 * returns it; so model code needs no `if`. */
#ifndef DDPM_PLAN_H
#define DDPM_PLAN_H
#include "backend/backend.h"
#include "base/err.h"
#include "ir/step.h"
#include <stdio.h>

enum { PLAN_DEPTH = 8 };

typedef struct plan {
    backend *be; /* borrowed */
    tensor **tensors;
    step **steps;
    int n_tensor, cap_tensor, n_step, cap_step;
    int n_forward; /* steps before the backward pass; all steps if there is none */
    /* Without `training`: the first steps of the list, all OP_OF_WEIGHTS, which plan_run() skips while the weights are
     * those that they ran with. */
    int n_of_weights;
    struct {
        const void *data; /* address of the weights (the raw ones or the EMA) */
        uint64_t version;
    } ran_with;
    char path[NAME_CAP];
    int depth, path_length[PLAN_DEPTH]; /* length of path before each plan_push() */
    bool training;                      /* keep activations for the backward pass; enable dropout */
    bool recompute;         /* the backward pass recomputes the outputs of OP_CHEAP ops instead of keeping them */
    size_t recompute_least; /* with recompute: least total bytes of such outputs for recomputing to apply */
    bool add_grads;         /* parameter gradients are always accumulated, never set: for several micro-batches */
    /* overlay activations by lifetime (default); tests clear it to show that results are the same */
    bool packed;
    /* each step may access its own operands only: needs AddressSanitizer, where it is the default */
    bool checked;
    bool finished;
    size_t bytes[ARENA_COUNT]; /* after plan_finish(): sizes of ACT and IO */
    size_t unpacked_bytes;     /* activations without overlaying */
    void *memory[ARENA_COUNT]; /* owned: ACT and IO */
    err first;                 /* the first error, if any */
    step dummy;                /* returned by plan_emit() after an error */
} plan;

DDPM_MUST_CHECK ddpm_status plan_create(backend *be, plan **out, err *e);
void plan_destroy(plan *p);

/* ---- build ------------------------------------------------------------------------------------ */

/* Records the first error as "<path>: <message>" and returns NULL, so that callers can `return plan_fail(...)`. */
__attribute__((format(printf, 3, 4))) void *plan_fail(plan *p, ddpm_status status, const char *fmt, ...);
static inline bool plan_ok(const plan *p) { return p->first.status == DDPM_OK; }

/* Enters and leaves a layer: "down_blocks.0", then "resnets.1" within it. */
__attribute__((format(printf, 2, 3))) void plan_push(plan *p, const char *fmt, ...);
void plan_pop(plan *p);

/* All return NULL after an error.  `name` is appended to the path. */
/* ARENA_IO, kept: steps of other plans on the same backend may use it too, as long as this plan lives. */
tensor *plan_input(plan *p, dtype d, const char *name, int64_t n, int64_t h, int64_t w, int64_t c);
tensor *plan_act(plan *p, const char *name, int64_t n, int64_t h, int64_t w, int64_t c); /* of type be->act */
tensor *plan_act_f32(plan *p, const char *name, int64_t n, int64_t h, int64_t w, int64_t c);
tensor *plan_act_i64(plan *p, const char *name, int64_t n);    /* [n, 1, 1, 1] */
tensor *plan_like(plan *p, const tensor *t, const char *name); /* an activation of t's shape */
/* A view of columns [column, column + c) of the matrix `base`, without memory of its own. */
tensor *plan_columns(plan *p, tensor *base, int64_t column, int64_t c);
/* The first `count` elements of a whole arena (ARENA_PARAM or later), for the optimizer. */
tensor *plan_arena(plan *p, arena_kind arena, const char *name, int64_t count);

typedef struct param_spec {
    int rank; /* 1, 2 or 4 */
    int64_t h, w, c;
    int fan_in, fan_out_per_row; /* fan_out of a part = its rows * fan_out_per_row */
    param_init init;
} param_spec;
typedef struct layer_rows {
    const char *name; /* layer name, appended to the path: "to_q" */
    int64_t rows;     /* output rows that belong to it */
} layer_rows;
/* One tensor [sum of rows, h, w, c] whose row ranges are the parameters "<path>.<layer>.<leaf>". */
tensor *plan_param(plan *p, const layer_rows *rows, int n_rows, const char *leaf, const param_spec *spec);

/* Keeps an activation readable after the run. */
void plan_keep(plan *p, tensor *t);

step *plan_emit(plan *p, op_kind op); /* never NULL: after an error a dummy whose contents are ignored */

/* ---- backward --------------------------------------------------------------------------------- */

typedef struct grad_slot {
    tensor *t;    /* NULL: x needs no gradient */
    unsigned add; /* 0: the step writes the gradient first (=); 1: it accumulates (+=) */
} grad_slot;
/* The tensor for the gradient of x.  Call once for each step that writes this gradient. */
grad_slot plan_grad(plan *p, tensor *x);
/* Sets out[i] of s to the gradient of x, with the right accumulate bit; false if x needs no gradient.  Two outputs of
 * one step that are the same gradient are an error: a device writes both at the same time. */
bool plan_grad_out(plan *p, step *s, int i, tensor *x);
/* Adds `dy` itself to the gradient of x; if no other step contributes yet, the gradient shares dy's tensor. */
void plan_grad_pass(plan *p, tensor *x, tensor *dy);

/* Sets out[i] of s to the gradient of a bias: the sums over n, h, w of dy, the gradient of the tensor to which the
 * bias was added.  If the step that completed dy can compute these sums (backend.bias_sums), that step does. */
void plan_bias_grad(plan *p, step *s, int i, const tensor *dy, tensor *bias);

/* Requests the gradient of an input (parameters always have one).  Call before the first op that reads x. */
void plan_want_grad(plan *p, tensor *x);
/* Appends the backward steps of everything that `root` depends on and that needs a gradient.  `seed` is the gradient
 * of root, an input of its shape; NULL if root's own op computes it (loss). */
void plan_differentiate(plan *p, tensor *root, tensor *seed);

/* ---- memory and run ---------------------------------------------------------------------------- */

DDPM_MUST_CHECK ddpm_status plan_finish(plan *p, err *e); /* prepares all steps and lays out memory; allocates none */
/* Lays out memory only, quickly: prepares and times nothing, ignores workspaces.  Such a plan cannot run. */
DDPM_MUST_CHECK ddpm_status plan_sketch(plan *p, err *e);
/* Call before plan_finish(), which may take minutes: DDPM_ENOMEM if a sketch needs more memory than the backend has
 * free. */
DDPM_MUST_CHECK ddpm_status plan_fits(plan *p, err *e);
DDPM_MUST_CHECK ddpm_status plan_allocate(plan *p, err *e); /* allocates IO and ACT memory */
DDPM_MUST_CHECK ddpm_status plan_run(plan *p, err *e);
DDPM_MUST_CHECK ddpm_status plan_run_times(plan *p, int times, err *e); /* runs the whole plan `times` times */
DDPM_MUST_CHECK ddpm_status plan_write(plan *p, tensor *t, const void *from_host, err *e); /* all of t */
DDPM_MUST_CHECK ddpm_status plan_read(plan *p, const tensor *t, void *to_host, err *e);

double plan_flops(const plan *p, int from, int to); /* of steps [from, to), without recomputed steps */
double plan_bytes(const plan *p, int from, int to); /* read and written by these steps, each operand once */
void plan_dump(const plan *p, FILE *to);            /* one line per step */

/* ---- shared by plan*.c ------------------------------------------------------------------------- */

ddpm_status plan_layout(plan *p, err *e); /* plan_memory.c: sets the offsets of ACT and IO tensors */
/* plan_recompute.c: called after the backward steps are appended, if p->recompute is set */
void plan_recompute(plan *p);

/* Functions of each op (ops.def); model code calls none of these. */
typedef void (*vjp_fn)(plan *p, step *forward);
typedef double (*flops_fn)(const step *s);
extern const vjp_fn op_vjp[OP_COUNT];
extern const flops_fn op_flops[OP_COUNT];
void vjp_none(plan *p, step *forward); /* an error: a backward step cannot be differentiated again */
void vjp_stop(plan *p, step *forward); /* does nothing: gradients end here */
double pointwise_flops(const step *s);
#define OP(name, vjp, flops, flags)                                                                                    \
    void vjp(plan *p, step *forward);                                                                                  \
    double flops(const step *s);
#include "ir/ops.def"
#undef OP

#endif
