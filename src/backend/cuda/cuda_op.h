/* cuda_op.h - how one op runs on the cuda backend, and where its operands lie. */
#ifndef DDPM_CUDA_OP_H
#define DDPM_CUDA_OP_H
#include "backend/cuda/cuda_backend.h"
#include "base/arith.h"
#include "ir/operands.h"
#include "storage.h"

/* How one op runs here.  prepare and release may be NULL: nothing to keep between runs. */
typedef struct cuda_op {
    ddpm_status (*prepare)(cuda_backend *be, step *s, size_t *scratch, err *e);
    ddpm_status (*run)(cuda_backend *be, const step *s, err *e);
    void (*release)(step *s);
} cuda_op;

#define OP(name, vjp, flops, flags) extern const cuda_op cuda_##name;
#include "ir/ops.def"
#undef OP

/* Errors name the step. */
DDPM_MUST_CHECK ddpm_status cuda_op_prepare(cuda_backend *be, step *s, size_t *scratch, err *e);
DDPM_MUST_CHECK ddpm_status cuda_op_run(cuda_backend *be, const step *s, err *e); /* on be->stream */
void cuda_op_release(step *s);

static inline void *cuda_data(const tensor *t) { return t ? t->data : NULL; }
static inline storage cuda_storage(const tensor *t) { return t && t->dtype == DTYPE_BF16 ? STORE_BF16 : STORE_F32; }

/* Room for several pieces in one scratch: returns where a piece of `bytes` begins and moves *end on. */
static inline size_t cuda_piece(size_t *end, size_t bytes)
{
    const size_t at = *end;
    *end += round_up_size(bytes, 256);
    return at;
}
static inline void *cuda_scratch(const step *s, size_t at) { return s->scratch ? (char *)s->scratch->data + at : NULL; }

#endif
