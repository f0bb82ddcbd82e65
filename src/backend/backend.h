/* backend.h - the interface between a plan and the machine that runs it.
 *
 * A backend owns memory and prepared primitives.  It sees steps and tensors, never the plan, the model or the
 * trainer.  Its memory may lie on a device: the host accesses it only through upload() and download(). */
#ifndef DDPM_BACKEND_H
#define DDPM_BACKEND_H
#include "base/err.h"
#include "ir/step.h"
#include <stdio.h>

typedef struct backend backend;

typedef struct backend_table {
    const char *name; /* "cpu", "cuda" */
    size_t alignment; /* alignment of tensors in their arena: bytes, a power of two */

    void (*destroy)(backend *be); /* accepts NULL */
    /* One line for the user: device, libraries, threads. */
    void (*describe)(const backend *be, char *text, size_t cap);

    /* Zeroed memory, aligned to `alignment`. */
    ddpm_status (*alloc)(backend *be, size_t bytes, void **out, err *e);
    void (*release)(backend *be, void *memory); /* accepts NULL */
    ddpm_status (*upload)(backend *be, void *to, const void *from_host, size_t bytes, err *e);
    ddpm_status (*download)(backend *be, void *to_host, const void *from, size_t bytes, err *e);

    /* Bytes a tensor needs in its arena; a padded layout may need more than its elements. */
    size_t (*tensor_bytes)(const backend *be, const tensor *t);
    /* Chooses the memory layout of each activation of the list (tensor.layout), before any step is prepared.
     * Tensors with keep set and tensors outside ARENA_ACT stay NHWC.  NULL: every tensor is NHWC. */
    ddpm_status (*arrange)(backend *be, step *const *steps, int n, err *e);
    /* Creates the primitive of the step and sets *scratch to the bytes of workspace it needs, and s->partial_bytes to
     * those of partial sums of gradients (step.partial).  Shapes are known, memory is not bound yet.  DDPM_EBACKEND: the message names the step. */
    ddpm_status (*prepare)(backend *be, step *s, size_t *scratch, err *e);
    void (*unprepare)(backend *be, step *s); /* accepts a step that was never prepared */
    /* Runs the steps in order, the whole list `times` >= 1 times; all memory is bound.  May return before the steps
     * have finished: upload() and download() wait for them. */
    ddpm_status (*run)(backend *be, step *const *steps, int n, int times, err *e);
    /* Converts the weights f32 [count] to low [count], of type be->act.  NULL if act is f32. */
    ddpm_status (*convert_weights)(backend *be, void *low, const float *weights, size_t count, err *e);
    size_t (*memory_free)(const backend *be); /* bytes that alloc() can probably get now */
    /* Prints the choices of autotuning, one line each.  NULL: the backend does not autotune. */
    void (*report)(const backend *be, FILE *to);
    bool host_memory; /* the host may access the memory directly */

    /* All four are NULL if run() is synchronous. wait() blocks until all submitted work has finished. */
    ddpm_status (*wait)(backend *be, err *e);
    /* Records *event (created if it is NULL) after the work submitted so far. */
    ddpm_status (*event_record)(backend *be, void **event, err *e);
    ddpm_status (*event_elapsed_ms)(backend *be, void *from, void *to, double *ms,
                                    err *e);      /* time between two events; waits for `to` */
    void (*event_free)(backend *be, void *event); /* accepts NULL */
} backend_table;

struct backend {
    const backend_table *fn;
    dtype act;          /* type of activations: f32 or bf16 */
    const char *remark; /* a note for the user, of the creation of the backend or of a step's preparation; NULL: none */
    const char *machine; /* device, driver and library versions as text; NULL: not a GPU */
    err unused_gpu;      /* cpu, chosen by device=auto: why it does not use the GPU of this machine; text "": no GPU */
    bool bias_sums;      /* norm_act_bwd can compute NORM_BWD_DBIAS and DBIAS2 */
    /* norm_act and 1x1 convolutions read x and x2 in place; otherwise the model needs nn_concat() */
    bool two_sources;
    bool projections; /* one matrix product computes the time-embedding projections of all resnets */
    int64_t time_mlp; /* largest dim + width with the time embedding as one op; larger ones get one op per layer */
    bool recompute;   /* recomputing cheap activations is faster than keeping them (plan.recompute) */
    bool folds;       /* upconv reads a filter that an upconv_fold step folds; else it folds W itself, or not at all */
};

typedef enum precision_kind {
    PRECISION_AUTO, /* the backend's fastest that trains well: bf16 on cuda, f32 on the cpu */
    PRECISION_FP32,
    PRECISION_TF32, /* f32 in memory; matrix products round their inputs to 11 significant bits */
    PRECISION_BF16, /* bf16 activations and weight copies; f32 statistics, loss, weight gradients and optimizer */
} precision_kind;

/* Algorithm of the cpu's 3x3 convolutions of stride 1. */
typedef enum conv_algo {
    CONV_ALGO_WINOGRAD, /* Winograd wherever the channels fill blocks of 16 */
    CONV_ALGO_DIRECT,
    CONV_ALGO_AUTO, /* the faster of the two, timed for each problem */
} conv_algo;

typedef struct backend_spec {
    const char *device; /* "auto" (cuda if a GPU is usable, else cpu), "cpu", "cuda", "cuda:N" */
    int threads;        /* cpu: OpenMP threads; 0: one per processor */
    precision_kind precision;
    bool nondeterministic;             /* cuda: also try library algorithms whose results may vary from run to run */
    conv_algo conv;                    /* cpu only */
    const char *autotune_cache;        /* file of the autotune cache; NULL or "": none */
    const char *shared_autotune_cache; /* a second cache, read after the first and written too; NULL or "": none */
    const char *cuda_libraries;        /* folder of cuDNN and cuBLAS; NULL or "": search the usual places */
    unsigned disabled;                 /* cuda: bits of config/cuda_opts.def: optimizations to disable (ablation) */
} backend_spec;

/* DDPM_EINVAL: unknown device.  DDPM_EDEVICE: a known device that cannot be used here. */
DDPM_MUST_CHECK ddpm_status backend_create(const backend_spec *spec, backend **out, err *e);
void backend_destroy(backend *be);

/* The backend's note for the user, to print once: NULL if there is none, or none since the last call. */
const char *backend_take_remark(backend *be);

/* Describes the libraries of this build's backends, one line each: "cpu: oneDNN 2.6.3, AVX2" and "cuda: CUDA 13.0,
 * cuDNN 9.19.0, cuBLASLt 13.1.0" or "cuda: not in this build".  Does not access any device. */
void backend_libraries(const char *cuda_folder, char *text, size_t cap);

/* Describes a GPU without initializing a backend on it; index -1: the first.  Example text: "cuda:0 NVIDIA H200
 * (9.0), 139.8 GiB, driver 13.0".  *count: number of GPUs.  DDPM_EDEVICE: the GPU cannot be used; the message gives
 * the cause and a remedy. */
DDPM_MUST_CHECK ddpm_status cuda_look(int index, char *text, size_t cap, int *count, err *e);

/* The available backends; called by backend.c only. */
DDPM_MUST_CHECK ddpm_status cpu_create(const backend_spec *spec, backend **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_create(const backend_spec *spec, backend **out, err *e);
bool cuda_present(void); /* is there a GPU?  Loads no library */
/* Is there a GPU that can be used?  why->text, if there is one that cannot: the reason; else "". */
bool cuda_usable(const backend_spec *spec, err *why);
bool cuda_is_built(void);
void cpu_libraries(char *text, size_t cap);
void cuda_libraries(const char *folder, char *text, size_t cap);

#endif
