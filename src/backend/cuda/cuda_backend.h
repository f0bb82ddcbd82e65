/* cuda_backend.h - the state of the cuda backend, shared by its files. */
#ifndef DDPM_CUDA_BACKEND_H
#define DDPM_CUDA_BACKEND_H
#include "backend/backend.h"
#include "backend/cuda/cuda_staging.h"
#include "backend/cuda/lib/cublas_gemm.h"
#include "backend/cuda/lib/cuda_library.h"
#include "backend/cuda/lib/cuda_rt.h"
#include "backend/cuda/lib/cudnn_problem.h"
#include "backend/cuda/tune/cuda_tune.h"
#include "config/cuda_opts.def"

/* backend_spec.disabled: bits of the optimizations to disable (ablations). */
enum cuda_opt {
#define OPTIMIZATION(NAME, word, bit) CUDA_OPT_##NAME = (bit),
    CUDA_OPT_LIST(OPTIMIZATION)
#undef OPTIMIZATION
};

enum { LIBRARIES_TEXT = 320 };

typedef struct cuda_backend {
    backend base;
    rt_info device;
    char machine[LIBRARIES_TEXT + 128]; /* text of base.machine */
    bool tf32;
    unsigned disabled;
    bool loops_refused; /* CUDA refused a library's kernel in a loop */
    void *main_stream, *side_stream;
    void *stream; /* the stream that the running step belongs to */
    cudnn_context *cudnn;
    cublas_context *cublas;
    tuner *tuner;
    struct graph_record *graphs; /* cuda_run.c */
    void *before, *after[SIDE_WINDOW];
    int *count; /* device memory: iterations left of a loop */
    cuda_staging staging[CUDA_STAGINGS];
    int next_staging;
    err dead; /* the first device failure: every later call returns this error */
} cuda_backend;

static inline bool cuda_disabled(const cuda_backend *be, enum cuda_opt what) { return (be->disabled & what) != 0; }

#endif
