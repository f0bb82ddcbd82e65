/* cuda_backend.h - what the files of the cuda backend share. */
#ifndef DDPM_CUDA_BACKEND_H
#define DDPM_CUDA_BACKEND_H
#include "backend/backend.h"
#include "base/arith.h"
#include "backend/cuda/lib/cublas_gemm.h"
#include "backend/cuda/tune/cuda_tune.h"
#include "backend/cuda/lib/cudnn_problem.h"
#include "backend/cuda/lib/cuda_rt.h"
#include "config/cuda_opts.def"
#include "ir/operands.h"
#include "storage.h"

/* backend_spec.disabled: leave an optimization out, to measure what it gives. */
enum cuda_opt {
#define OPTIMIZATION(NAME, word, bit) CUDA_OPT_##NAME = (bit),
    CUDA_OPT_LIST(OPTIMIZATION)
#undef OPTIMIZATION
};

enum { STAGINGS = 4 };
typedef struct staging { /* cuda_staging.c */
    void *memory;        /* pinned */
    size_t bytes;
    void *done; /* event: its last copy has left */
    bool used;
} staging;

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
    staging staging[STAGINGS];
    int next_staging;
    err dead; /* the first failure of the device: everything after it fails too */
} cuda_backend;

/* How one op runs here.  prepare and release may be NULL: nothing to keep between runs. */
typedef struct cuda_op {
    ddpm_status (*prepare)(cuda_backend *be, step *s, size_t *scratch, err *e);
    ddpm_status (*run)(cuda_backend *be, const step *s, err *e);
    void (*release)(step *s);
} cuda_op;

#define OP(name, vjp, flops) extern const cuda_op cuda_##name;
#include "ir/ops.def"
#undef OP

static inline void *cuda_data(const tensor *t) { return t ? t->data : NULL; }
static inline storage cuda_storage(const tensor *t) { return t && t->dtype == DTYPE_BF16 ? STORE_BF16 : STORE_F32; }
static inline bool cuda_disabled(const cuda_backend *be, enum cuda_opt what) { return (be->disabled & what) != 0; }

/* ---- primitives of a problem, chosen once (cuda_tune.h) ---- */
DDPM_MUST_CHECK ddpm_status cuda_primitive_conv(cuda_backend *be, const conv_problem *q, primitive **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_primitive_gemm(cuda_backend *be, const gemm_problem *q, primitive **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_primitive_sdpa(cuda_backend *be, const attention_problem *q, primitive **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_primitive_run(cuda_backend *be, primitive *p, void *const operands[PRIMITIVE_OPERANDS],
                                               void *workspace, err *e);

/* The largest power of two up to 16 that divides all of bytes[n]. */
int cuda_alignment(const int64_t *bytes, int n);

/* Room for several pieces in one scratch: returns where a piece of `bytes` begins and moves *end on. */
static inline size_t cuda_piece(size_t *end, size_t bytes)
{
    const size_t at = *end;
    *end += round_up_size(bytes, 256);
    return at;
}
static inline void *cuda_scratch(const step *s, size_t at) { return s->scratch ? (char *)s->scratch->data + at : NULL; }

/* Launches that several ops share. */
/* sums[c] (=, +=) the column sums of x [rows, c]; partial: column_sum_scratch(rows, c) bytes */
DDPM_MUST_CHECK ddpm_status cuda_column_sums(cuda_backend *be, const tensor *x, const void *data, tensor *sums,
                                             bool add, void *partial, err *e);
/* to (=, +=) from, converted */
DDPM_MUST_CHECK ddpm_status cuda_copy_as(cuda_backend *be, const void *from, storage from_type, const tensor *to,
                                         bool add, err *e);
/* to [rows, c] = bias + residual; either may be NULL */
DDPM_MUST_CHECK ddpm_status cuda_fill_rows(cuda_backend *be, const tensor *to, const tensor *bias, const void *residual,
                                           err *e);

/* Where a library's result goes: into a tensor, or on top of what is there.  The library adds by itself
 * (beta = 1); with CUDA_OPT_BETA the result goes to a scratch of the tensor's shape, and a kernel adds that. */
typedef struct target {
    bool add; /* by the library */
    bool via_scratch;
    size_t at; /* of it */
} target;
target cuda_target(const cuda_backend *be, const tensor *to, bool add, size_t *end);
void *cuda_target_data(const step *s, const target *t, const tensor *to);
DDPM_MUST_CHECK ddpm_status cuda_target_finish(cuda_backend *be, const step *s, const target *t, const tensor *to,
                                               err *e);

/* A product over rows: what stays the same for all of an op's products. */
typedef struct product {
    gemm_problem q;
    primitive *p;
    size_t workspace; /* where it lies in the step's scratch */
} product;
/* Fill in q.align, find the primitive and add its workspace to *end. */
DDPM_MUST_CHECK ddpm_status cuda_product_prepare(cuda_backend *be, product *g, int64_t offset_bytes, size_t *end,
                                                 err *e);
typedef struct product_data {
    const void *a, *b, *bias, *c;
    void *d;
} product_data;
DDPM_MUST_CHECK ddpm_status cuda_product_run(cuda_backend *be, const step *s, const product *g, const product_data *at,
                                             err *e);

/* The problems that a step puts to the libraries, for those who want to know them without a device:
 * fills at most `cap` and returns how many there are. */
int cuda_conv_problems(const step *s, bool tf32, unsigned disabled, conv_problem *out, int cap);
int cuda_attention_problems(const step *s, unsigned disabled, attention_problem *out, int cap);
int cuda_conv2d_problem(const step *s, unsigned disabled, conv_problem *out); /* 0: none, or another op's */
int cuda_upconv_problem(const step *s, unsigned disabled, conv_problem *out);

DDPM_MUST_CHECK ddpm_status cuda_stage_upload(cuda_backend *be, void *to, const void *from_host, size_t bytes, err *e);
void cuda_staging_destroy(cuda_backend *be);

/* cuda_run.c */
DDPM_MUST_CHECK ddpm_status cuda_run_steps(cuda_backend *be, step *const *steps, int n, int times, err *e);
void cuda_forget_graphs(cuda_backend *be, const step *s); /* those that contain the step; NULL: all */
/* Run one step on be->stream; cuda_backend.c. */
DDPM_MUST_CHECK ddpm_status cuda_run_op(cuda_backend *be, const step *s, err *e);

#endif
