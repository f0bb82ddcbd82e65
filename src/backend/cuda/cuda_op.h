/* cuda_op.h - the functions of an op on the cuda backend, and helpers for its operands' addresses and types. */
#ifndef DDPM_CUDA_OP_H
#define DDPM_CUDA_OP_H
#include "backend/cuda/cuda_backend.h"
#include "base/arith.h"
#include "ir/operands.h"
#include "storage.h"

/* The functions of one op.  prepare and release may be NULL: the op keeps nothing between runs. */
typedef struct cuda_op {
    ddpm_status (*prepare)(cuda_backend *be, step *s, size_t *scratch, err *e);
    ddpm_status (*run)(cuda_backend *be, const step *s, err *e);
    void (*release)(step *s);
} cuda_op;

#define OP(name, vjp, flops, flags) extern const cuda_op cuda_##name;
#include "ir/ops.def"
#undef OP

/* Error messages name the step. */
DDPM_MUST_CHECK ddpm_status cuda_op_prepare(cuda_backend *be, step *s, size_t *scratch, err *e);
DDPM_MUST_CHECK ddpm_status cuda_op_run(cuda_backend *be, const step *s, err *e); /* on be->stream */
void cuda_op_release(step *s);

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

#endif
