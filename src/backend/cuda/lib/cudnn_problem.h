/* cudnn_problem.h - convolutions and attention by cuDNN 9's graph API, through its C interface.
 *
 * All images are NHWC.  x, w, y and all tensors of their shapes are of type `io`; accumulation is in f32. */
#ifndef DDPM_CUDNN_PROBLEM_H
#define DDPM_CUDNN_PROBLEM_H
#include "backend/conv_shape.h"
#include "backend/cuda/lib/primitive.h"

typedef struct cudnn_context cudnn_context;

/* For the current device; or, with `device_json` (a cuDNN device description), for the described device, which need
 * not exist: engines are built, but cannot run. */
DDPM_MUST_CHECK ddpm_status cudnn_context_create(const char *device_json, cudnn_context **out, err *e);
void cudnn_context_destroy(cudnn_context *c);                       /* takes NULL */
void cudnn_context_describe(const cudnn_context *c, char text[80]); /* "cuDNN 9.19.0" */

typedef struct conv_problem {
    conv_shape shape;
    dtype io;            /* f32 or bf16 */
    bool tf32;           /* f32 only: TF32 is allowed (factors rounded to 11 bits) */
    bool bias, residual; /* CONV_PASS_FORWARD: bias [cout] of type io; residual of y's shape */
    bool accumulate;     /* CONV_PASS_BACKWARD_DATA, CONV_PASS_BACKWARD_WEIGHTS: += */
} conv_problem;

/* operands, aligned to 16 bytes; the pass determines whether Y, X or W is the result */
enum { CUDNN_CONV_X, CUDNN_CONV_W, CUDNN_CONV_Y, CUDNN_CONV_BIAS, CUDNN_CONV_RESIDUAL };

/* DDPM_EBACKEND: no engine can compute the problem. */
DDPM_MUST_CHECK ddpm_status cudnn_convolution_create(cudnn_context *c, const conv_problem *q,
                                                     const primitive_search *how, primitive **out, err *e);

typedef struct attention_problem {
    bool backward;
    dtype io;     /* bf16 */
    int64_t n, s; /* images; positions of each */
    int heads, d; /* d channels a head; scale is 1 / sqrt(d) */
} attention_problem;

/* qkv, dqkv [n, s, 3 heads d] as (q | k | v); y, dy [n, s, heads d]; lse f32 [n, heads, s].
 * forward: qkv -> y, lse.  backward: qkv, y, lse, dy -> dqkv. */
enum { SDPA_QKV, SDPA_Y, SDPA_LSE, SDPA_DY, SDPA_DQKV };

/* *out = NULL with DDPM_OK where cuDNN has no engine: the caller then computes attention from matrix products.  For bf16,
 * e->text then has cuDNN's reason. */
DDPM_MUST_CHECK ddpm_status cudnn_attention_create(cudnn_context *c, const attention_problem *q,
                                                   const primitive_search *how, primitive **out, err *e);

#endif
