/* cuda_backend.h - the state of the cuda backend, which its files share. */
#ifndef DDPM_CUDA_BACKEND_H
#define DDPM_CUDA_BACKEND_H
#include "backend/backend.h"
#include "backend/cuda/cuda_staging.h"
#include "backend/cuda/lib/cublas_gemm.h"
#include "backend/cuda/lib/cuda_rt.h"
#include "backend/cuda/lib/cudnn_problem.h"
#include "backend/cuda/tune/cuda_tune.h"
#include "config/cuda_opts.def"

/* backend_spec.disabled: optimizations to leave out, to measure what each gives. */
enum cuda_opt {
#define OPTIMIZATION(NAME, word, bit) CUDA_OPT_##NAME = (bit),
    CUDA_OPT_LIST(OPTIMIZATION)
#undef OPTIMIZATION
};

typedef struct cuda_backend {
    backend base;
    rt_info device;
    bool tf32;
    unsigned disabled;
    void *main_stream, *side_stream;
    void *stream; /* the one that the step being run belongs to */
    cudnn_context *cudnn;
    blas_context *blas;
    tuner *tuner;
    struct recorded *graphs; /* cuda_run.c */
    void *before, *after[SIDE_WINDOW];
    int *count; /* device memory: turns left of a loop */
    int *turns; /* pinned: where that comes from */
    cuda_staging staging[CUDA_STAGINGS];
    int next_staging;
    err dead; /* the first failure of the device: everything after it fails too */
} cuda_backend;

static inline bool cuda_disabled(const cuda_backend *be, enum cuda_opt what) { return (be->disabled & what) != 0; }

#endif
