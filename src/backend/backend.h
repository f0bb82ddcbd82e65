/* backend.h - what a plan asks of the machine that runs it.
 *
 * A backend owns memory and prepared primitives.  It sees steps and tensors, never the plan, the
 * model or the trainer.  Memory it hands out may lie on a device: only upload() and download()
 * touch it from the host. */
#ifndef DDPM_BACKEND_H
#define DDPM_BACKEND_H
#include "base/err.h"
#include "ir/step.h"
#include <stdio.h>

typedef struct backend backend;

typedef struct backend_table {
    const char *name; /* "cpu", "cuda" */
    size_t alignment; /* of tensors in their arena: bytes, a power of two */

    void (*destroy)(backend *be); /* takes NULL */
    /* One line for the user: device, libraries, threads. */
    void (*describe)(const backend *be, char *text, size_t cap);

    /* Zeroed memory, aligned to `alignment`. */
    ddpm_status (*alloc)(backend *be, size_t bytes, void **out, err *e);
    void (*release)(backend *be, void *memory); /* takes NULL */
    ddpm_status (*upload)(backend *be, void *to, const void *from_host, size_t bytes, err *e);
    ddpm_status (*download)(backend *be, void *to_host, const void *from, size_t bytes, err *e);

    /* Bytes a tensor needs in its arena; a padded layout may need more than its elements. */
    size_t (*tensor_bytes)(const backend *be, const tensor *t);
    /* Choose how each activation of the list lies in memory (tensor.layout), before any is prepared; what is
     * kept or lies outside ARENA_ACT stays NHWC.  NULL: all do. */
    ddpm_status (*arrange)(backend *be, step *const *steps, int n, err *e);
    /* Make the step's primitive; set *scratch to the bytes it wants while it runs.  Shapes are
     * known, memory is not.  DDPM_EBACKEND names the step. */
    ddpm_status (*prepare)(backend *be, step *s, size_t *scratch, err *e);
    void (*unprepare)(backend *be, step *s); /* takes a step that was never prepared */
    /* Run the steps in order, the whole list `times` >= 1 times; all memory is bound.  May return before
     * they are done: upload() and download() wait. */
    ddpm_status (*run)(backend *be, step *const *steps, int n, int times, err *e);
    /* low[count], of type be->act, from weights f32 [count].  NULL where act is f32. */
    ddpm_status (*convert_weights)(backend *be, void *low, const float *weights, size_t count, err *e);
    /* k [cin, 4, 4, cout], of type be->act, from w [cout, 3, 3, cin] (kernels/upconv_fold.h).  NULL where be->folds is
     * not set. */
    ddpm_status (*fold_filter)(backend *be, void *k, const float *w, int cout, int cin, err *e);
    size_t (*memory_free)(const backend *be); /* bytes that alloc() may hope for now */
    /* What was chosen by timing, a line each.  NULL: nothing is. */
    void (*report)(const backend *be, FILE *to);
    bool host_memory; /* memory may be touched from the host */

    /* All four NULL where run() returns when its work is done.  wait(): until all that was given is done. */
    ddpm_status (*wait)(backend *be, err *e);
    /* *event (created where it is NULL) is recorded behind the work given so far. */
    ddpm_status (*event_record)(backend *be, void **event, err *e);
    ddpm_status (*event_elapsed_ms)(backend *be, void *from, void *to, double *ms,
                                    err *e);      /* between two; waits for `to` */
    void (*event_free)(backend *be, void *event); /* takes NULL */
} backend_table;

struct backend {
    const backend_table *fn;
    dtype act;          /* of activations: f32, or bf16 */
    const char *remark; /* something to be told once, about the way it was made; NULL: nothing */
    bool bias_sums;     /* norm_act_bwd can hand out NORM_BWD_DBIAS and DBIAS2 */
    bool two_sources;   /* norm_act and 1x1 convolutions read x and x2 where they lie; else they want nn_concat() */
    bool projections;   /* every resnet's projection of the time embedding comes from one matrix product */
    int64_t time_mlp; /* dim + width up to which a time embedding is one op; beyond, its layers are ops of their own */
    bool recompute;   /* recomputing cheap activations is faster than keeping them (plan.recompute) */
    bool folds;       /* upconv wants its filter folded (tensor.fold), and adamw keeps the folds up to date */
};

typedef enum precision_kind {
    PRECISION_AUTO, /* the backend's fastest that trains well: bf16 on cuda, fp32 on the cpu */
    PRECISION_FP32,
    PRECISION_TF32, /* f32 in memory, products of values rounded to 11 bits */
    PRECISION_BF16, /* bf16 activations and weight copies; statistics, loss, gradients of weights, optimizer in f32 */
} precision_kind;

/* How the cpu computes 3x3 convolutions of stride 1. */
typedef enum conv_algo {
    CONV_ALGO_WINOGRAD, /* by Winograd's algorithm wherever channels fill blocks of 16 */
    CONV_ALGO_DIRECT,
    CONV_ALGO_AUTO, /* whichever is faster, for each by timing */
} conv_algo;

typedef struct backend_spec {
    const char *device; /* "auto" (cuda if a device answers, else cpu), "cpu", "cuda", "cuda:N" */
    int threads;        /* cpu: OpenMP threads, 0 = as many as there are processors */
    precision_kind precision;
    bool nondeterministic;             /* cuda: also try library algorithms whose result may differ from run to run */
    conv_algo conv;                    /* cpu */
    const char *autotune_cache;        /* file for what autotuning chooses; NULL or "": none */
    const char *shared_autotune_cache; /* cpu: another that is asked second, and told too; NULL or "": none */
    unsigned disabled;                 /* cuda: bits of config/cuda_opts.def, optimizations to leave out */
} backend_spec;

/* DDPM_EINVAL: unknown device.  DDPM_EDEVICE: known, but not usable here. */
DDPM_MUST_CHECK ddpm_status backend_create(const backend_spec *spec, backend **out, err *e);
void backend_destroy(backend *be);

/* The libraries that the backends of this build compute with, a line each: "cpu: oneDNN 2.6.3, AVX2" and
 * "cuda: CUDA 13.0, cuDNN 9.19.0, cuBLASLt 13.1.0" or "cuda: not in this build".  Asks no device. */
void backend_libraries(char *text, size_t cap);

/* A GPU that is looked at and not taken, by its number or -1 for the first: "cuda:0 NVIDIA H200 (9.0), 139.8 GiB, driver
 * 13.0".  *count: how many there are.  DDPM_EDEVICE: it cannot be used; says why, and what to do. */
DDPM_MUST_CHECK ddpm_status cuda_look(int index, char *text, size_t cap, int *count, err *e);

/* The backends there are, for backend.c alone. */
DDPM_MUST_CHECK ddpm_status cpu_create(const backend_spec *spec, backend **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_create(const backend_spec *spec, backend **out, err *e);
bool cuda_present(void); /* does a device answer?  Quiet */
bool cuda_is_built(void);
void cpu_libraries(char *text, size_t cap);
void cuda_libraries(char *text, size_t cap);

#endif
