/* plan.h - a network, its backward pass and its memory as one flat list of steps.
 *
 *   build     nn_<op>() calls append steps; names come from the path pushed on the plan
 *   backward  plan_differentiate() lets each op append its own backward steps, last op first
 *   finish    plan_finish() lets the backend prepare every step and lays out all memory
 *   bind      plan_allocate() takes the memory; params_bind() points at the weights
 *   run       plan_run(): one loop, no allocation
 *
 * Errors while building are sticky: the first is kept with its layer path, later calls do nothing,
 * and plan_finish() returns it; so model code needs no `if`. */
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
    int n_forward; /* steps before the backward pass; all of them if there is none */
    char path[NAME_CAP];
    int depth, path_length[PLAN_DEPTH]; /* of path, before each plan_push() */
    bool training;                      /* keep what a backward pass needs; dropout acts */
    bool recompute;         /* the backward pass recomputes the outputs of OP_CHEAP ops instead of keeping them */
    size_t recompute_least; /* with recompute: not where all of them have fewer bytes than these */
    bool add_grads;         /* parameter gradients are always added to, never set: accumulation over micro-batches */
    bool packed;            /* overlay activations by lifetime (default); off, to test that it changes no bit */
    bool checked;           /* each step sees its own operands only: default, and possible, under AddressSanitizer */
    bool finished;
    size_t bytes[ARENA_COUNT]; /* after plan_finish(): ACT and IO */
    size_t unpacked_bytes;     /* activations without overlaying */
    void *memory[ARENA_COUNT]; /* owned: ACT and IO */
    err first;                 /* the first error, if any */
    step dummy;                /* what plan_emit() returns after it */
} plan;

DDPM_MUST_CHECK ddpm_status plan_create(backend *be, plan **out, err *e);
void plan_destroy(plan *p);

/* ---- build ------------------------------------------------------------------------------------ */

/* Record the first error as "<path>: <message>" and return NULL, so `return plan_fail(...)`. */
__attribute__((format(printf, 3, 4))) void *plan_fail(plan *p, ddpm_status status, const char *fmt, ...);
static inline bool plan_ok(const plan *p) { return p->first.status == DDPM_OK; }

/* Enter and leave a layer: "down_blocks.0", then "resnets.1" within it. */
__attribute__((format(printf, 2, 3))) void plan_push(plan *p, const char *fmt, ...);
void plan_pop(plan *p);

/* All return NULL after an error.  `name` is joined to the path. */
tensor *plan_input(plan *p, dtype d, const char *name, int64_t n, int64_t h, int64_t w, int64_t c); /* IO, kept */
tensor *plan_act(plan *p, const char *name, int64_t n, int64_t h, int64_t w, int64_t c); /* of the backend's type */
tensor *plan_act_f32(plan *p, const char *name, int64_t n, int64_t h, int64_t w, int64_t c);
tensor *plan_like(plan *p, const tensor *t, const char *name); /* an activation of t's shape */
/* Columns [column, column + c) of the matrix `base`; no memory of its own. */
tensor *plan_columns(plan *p, tensor *base, int64_t column, int64_t c);
/* The first `count` elements of a whole arena (PARAM on), for the optimizer. */
tensor *plan_arena(plan *p, arena_kind arena, const char *name, int64_t count);

typedef struct param_spec {
    int rank; /* 1, 2 or 4 */
    int64_t h, w, c;
    int fan_in, fan_out_per_row; /* fan_out of a part = its rows * fan_out_per_row */
    param_init init;
} param_spec;
typedef struct layer_rows {
    const char *name; /* layer name, joined to the path: "to_q" */
    int64_t rows;     /* output rows that belong to it */
} layer_rows;
/* One tensor [sum of rows, h, w, c] whose row ranges are the parameters "<path>.<layer>.<leaf>". */
tensor *plan_param(plan *p, const layer_rows *rows, int n_rows, const char *leaf, const param_spec *spec);

/* Keep an activation readable after the run. */
void plan_keep(plan *p, tensor *t);

step *plan_emit(plan *p, op_kind op); /* never NULL: after an error a dummy that is thrown away */

/* ---- backward --------------------------------------------------------------------------------- */

typedef struct grad_slot {
    tensor *t;    /* NULL: x needs no gradient */
    unsigned add; /* 0: this is its first writer (=); 1: add to it (+=) */
} grad_slot;
/* Where the gradient of x goes.  Call once for each step that writes it. */
grad_slot plan_grad(plan *p, tensor *x);
/* Set out[i] of s to the gradient of x, with the right accumulate bit; false if x needs none. */
bool plan_grad_out(plan *p, step *s, int i, tensor *x);
/* The gradient of x is `dy` itself plus what is there: shared when it is the first. */
void plan_grad_pass(plan *p, tensor *x, tensor *dy);

/* Set out[i] of s to the gradient of a bias that was added to what has the gradient dy: its sums over
 * n, h, w.  Where the step that completed dy can hand them out (backend.bias_sums), that step does. */
void plan_bias_grad(plan *p, step *s, int i, const tensor *dy, tensor *bias);

/* Mark an input whose gradient is wanted (parameters always are).  Before the first op that reads it. */
void plan_want_grad(plan *p, tensor *x);
/* Append the backward steps of everything that feeds `root` and needs a gradient.  `seed` is the
 * gradient of root, an input of its shape; NULL where root's own op makes it (mse). */
void plan_differentiate(plan *p, tensor *root, tensor *seed);

/* ---- memory and run ---------------------------------------------------------------------------- */

DDPM_MUST_CHECK ddpm_status plan_finish(plan *p, err *e); /* prepare all steps, lay out memory; takes none */
/* Lay out memory alone, at once: nothing is prepared or timed, workspaces are not counted, and it cannot run. */
DDPM_MUST_CHECK ddpm_status plan_sketch(plan *p, err *e);
/* Before plan_finish(), which may take minutes: DDPM_ENOMEM where a sketch needs more than the backend has free. */
DDPM_MUST_CHECK ddpm_status plan_fits(plan *p, err *e);
DDPM_MUST_CHECK ddpm_status plan_allocate(plan *p, err *e); /* take IO and ACT memory */
DDPM_MUST_CHECK ddpm_status plan_run(plan *p, err *e);
DDPM_MUST_CHECK ddpm_status plan_run_times(plan *p, int times, err *e); /* the whole plan, that often */
DDPM_MUST_CHECK ddpm_status plan_write(plan *p, tensor *t, const void *from_host, err *e); /* all of t */
DDPM_MUST_CHECK ddpm_status plan_read(plan *p, const tensor *t, void *to_host, err *e);

double plan_flops(const plan *p, int from, int to); /* of steps [from, to) but for those that repeat others */
double plan_bytes(const plan *p, int from, int to); /* read and written by them, each operand once */
void plan_dump(const plan *p, FILE *to);            /* one line a step */

/* ---- between plan*.c ---------------------------------------------------------------------------- */

ddpm_status plan_layout(plan *p, err *e); /* plan_memory.c: offsets of ACT and IO tensors */
void plan_recompute(plan *p);             /* plan_recompute.c: after the backward steps, where p->recompute is set */

/* What an op brings (ops.def); none of these is called by model code. */
typedef void (*vjp_fn)(plan *p, step *forward);
typedef double (*flops_fn)(const step *s);
extern const vjp_fn op_vjp[OP_COUNT];
extern const flops_fn op_flops[OP_COUNT];
void vjp_none(plan *p, step *forward); /* a backward step has no backward of its own: an error */
void vjp_stop(plan *p, step *forward); /* gradients end here */
double pointwise_flops(const step *s);
#define OP(name, vjp, flops, flags)                                                                                    \
    void vjp(plan *p, step *forward);                                                                                  \
    double flops(const step *s);
#include "ir/ops.def"
#undef OP

#endif
