/* cuda_primitive.h - library primitives: created and autotuned once for each problem, shared by its steps. */
#ifndef DDPM_CUDA_PRIMITIVE_H
#define DDPM_CUDA_PRIMITIVE_H
#include "backend/cuda/cuda_op.h"

DDPM_MUST_CHECK ddpm_status cuda_primitive_conv(cuda_backend *be, const conv_problem *q, primitive **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_primitive_gemm(cuda_backend *be, const gemm_problem *q, primitive **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_primitive_sdpa(cuda_backend *be, const attention_problem *q, primitive **out, err *e);
DDPM_MUST_CHECK ddpm_status cuda_primitive_run(cuda_backend *be, primitive *p, void *const operands[PRIMITIVE_OPERANDS],
                                               void *workspace, err *e);

/* The largest power of two up to 16 that divides each of bytes[0 .. n - 1]. */
int cuda_alignment(const int64_t *bytes, int n);

#endif
