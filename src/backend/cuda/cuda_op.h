/* cuda_op.h - the functions of an op on the cuda backend, and helpers for its operands' addresses and types. */
#ifndef DDPM_CUDA_OP_H
#define DDPM_CUDA_OP_H
#include "backend/cuda/cuda_backend.h"
#include "base/arith.h"
#include "grad_sums.h"
#include "ir/operands.h"

enum { STEP_SUMS = 6 }; /* most sums of a step */

/* The functions of one op.  prepare and release may be NULL: the op keeps nothing between runs. */
typedef struct cuda_op {
    ddpm_status (*prepare)(cuda_backend *be, step *s, size_t *scratch, err *e);
    ddpm_status (*run)(cuda_backend *be, const step *s, err *e);
    void (*release)(step *s);
    /* Lists the sums of s->partial that complete the step's gradients, at most STEP_SUMS; returns their number.  NULL:
     * run() completes all outputs. */
    int (*sums)(const step *s, grad_sum *list);
} cuda_op;

#define OP(name, vjp, flops, flags) extern const cuda_op cuda_##name;
#include "ir/ops.def"
#undef OP

/* Error messages name the step. */
DDPM_MUST_CHECK ddpm_status cuda_op_prepare(cuda_backend *be, step *s, size_t *scratch, err *e);
DDPM_MUST_CHECK ddpm_status cuda_op_run(cuda_backend *be, const step *s, err *e); /* on be->stream */
void cuda_op_release(step *s);
/* Completes the gradients of n steps, on be->stream. */
DDPM_MUST_CHECK ddpm_status cuda_op_sums(cuda_backend *be, step *const *steps, int n, err *e);

static inline void *cuda_data(const tensor *t) { return t ? t->data : NULL; }
static inline storage cuda_storage(const tensor *t) { return t && t->dtype == DTYPE_BF16 ? STORE_BF16 : STORE_F32; }

/* Divides a step's scratch into pieces: returns the offset of a piece of `bytes` and advances *end past it. */
static inline size_t cuda_piece(size_t *end, size_t bytes)
{
    const size_t at = *end;
    *end += round_up_size(bytes, 256);
    return at;
}
static inline void *cuda_scratch(const step *s, size_t at) { return s->scratch ? (char *)s->scratch->data + at : NULL; }
static inline void *cuda_partial(const step *s, size_t at) { return s->partial ? (char *)s->partial->data + at : NULL; }

/* The sum over `rows` rows, `ld` apart, that completes out[output] of s; false if the step has no such output. */
static inline bool cuda_sum(grad_sum *to, const step *s, int output, const void *from, storage type, int64_t rows,
                            int64_t ld)
{
    const tensor *t = s->out[output];
    if (!t) return false;
    *to = (grad_sum){.from = from,
                     .to = t->data,
                     .rows = (int)rows,
                     .count = (int)tensor_count(t),
                     .ld = (int)ld,
                     .type = type,
                     .add = step_adds(s, output)};
    return true;
}

#endif
