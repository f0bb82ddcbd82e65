/* cudnn_problem.h - convolutions and attention as cuDNN 9's graph API does them, through its C interface.
 *
 * All images are NHWC, filters [k, r, s, c].  x, w, y and what has their shapes are of type `io`,
 * accumulation is in f32. */
#ifndef DDPM_CUDNN_PROBLEM_H
#define DDPM_CUDNN_PROBLEM_H
#include "backend/cuda/lib/primitive.h"

typedef struct dnn_context dnn_context;

/* For the current device; or, with `device_json` (a cuDNN device description), for a device that need
 * not be there: plans are built, and cannot run. */
DDPM_MUST_CHECK ddpm_status dnn_context_create(const char *device_json, dnn_context **out, err *e);
void dnn_context_destroy(dnn_context *c);                       /* takes NULL */
void dnn_context_describe(const dnn_context *c, char text[80]); /* "cuDNN 9.19.0" */

typedef enum conv_pass {
    CONV_FORWARD, /* y = conv(x, w) (+ residual) (+ bias) */
    CONV_DATA,    /* x (=, +=) the transpose of conv in x applied to y: dx of dy, or a transposed convolution */
    CONV_FILTER,  /* w (=, +=) dw of x and dy */
} conv_pass;

typedef struct conv_problem {
    conv_pass pass;
    dtype io;                  /* f32 or bf16 */
    bool tf32;                 /* f32: products of values rounded to 11 bits are allowed */
    int64_t n, h, w, c;        /* x */
    int64_t oh, ow, k;         /* y [n, oh, ow, k] */
    int filter, stride;        /* 1, 3 or 4; 1 or 2 */
    int pad_before, pad_after; /* rows and columns of zeros above and left; below and right */
    bool bias, residual;       /* CONV_FORWARD: bias [k] of type io; residual of y's shape */
    bool accumulate;           /* CONV_DATA, CONV_FILTER: += */
} conv_problem;

/* operands, at multiples of 16 bytes; the result is Y, X or W by the pass */
enum { CONV_OPERAND_X, CONV_OPERAND_W, CONV_OPERAND_Y, CONV_OPERAND_BIAS, CONV_OPERAND_RESIDUAL };

/* DDPM_EBACKEND: no plan can do it. */
DDPM_MUST_CHECK ddpm_status dnn_convolution_create(dnn_context *c, const conv_problem *q, const primitive_search *how,
                                                   primitive **out, err *e);

typedef struct attention_problem {
    bool backward;
    dtype io;     /* bf16 */
    int64_t n, s; /* images, positions */
    int heads, d; /* d channels a head; scale is 1 / sqrt(d) */
} attention_problem;

/* qkv, dqkv [n, s, 3 heads d] as (q | k | v); y, dy [n, s, heads d]; lse f32 [n, heads, s].
 * forward: qkv -> y, lse.  backward: qkv, y, lse, dy -> dqkv. */
enum { SDPA_QKV, SDPA_Y, SDPA_LSE, SDPA_DY, SDPA_DQKV };

/* *out = NULL with DDPM_OK where cuDNN has no plan for it: the caller then computes it from products. */
DDPM_MUST_CHECK ddpm_status dnn_attention_create(dnn_context *c, const attention_problem *q,
                                                 const primitive_search *how, primitive **out, err *e);

#endif
