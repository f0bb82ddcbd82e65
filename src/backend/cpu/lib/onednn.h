/* onednn.h - the only door to oneDNN, 2.4 to 3.x: convolutions and matrix products on f32 memory. */
#ifndef DDPM_ONEDNN_H
#define DDPM_ONEDNN_H
#include "backend/conv_shape.h"
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct onednn onednn;

DDPM_MUST_CHECK ddpm_status onednn_create(onednn **out, err *e);
void onednn_destroy(onednn *d);
/* The library that is loaded, and the instruction set that it uses here: "oneDNN 2.6.3, AVX-512". */
void onednn_describe(char *text, size_t cap);

/* Does this machine have kernels for activations in blocks of channels? */
bool onednn_has_blocked_kernels(void);

/* May the loaded oneDNN cut any sum of a convolution by the number of threads?  Before 3.0 it does so for the filter's
 * gradient alone; 3.12 was seen to do it for outputs and for the input's gradient, too. */
bool onednn_sums_by_thread(void);

/* A convolution from src [n, h, w, cin] to dst [n, oh, ow, cout], filter [cout, k, k, cin]. */
typedef struct onednn_conv_spec {
    conv_pass pass;
    int64_t n, h, w, cin, oh, ow, cout;
    int64_t filter_ld;                      /* channels from one place of the filter to the next; 0: cin */
    int kernel, stride, pad_begin, pad_end; /* the same for rows and columns */
    bool blocked;                           /* src and dst are [n, c / 16, h, w, 16]; otherwise NHWC */
    bool bias;                              /* forward: added; backward weights: its gradient is made */
    bool residual;                          /* forward, NHWC: dst = conv + bias + residual */
    bool sum;                               /* forward, blocked: dst += conv + bias */
    bool add, add_bias; /* backward weights: add to the filter, to the bias, instead of setting it */
    bool frozen;        /* the filter seldom changes: keep it as the primitive wants it from run to run */
} onednn_conv_spec;

typedef struct onednn_conv onednn_conv;

/* DDPM_EBACKEND with oneDNN's reason.  *scratch: bytes wanted while it runs. */
DDPM_MUST_CHECK ddpm_status onednn_conv_create(onednn *d, const onednn_conv_spec *spec, onednn_conv **out,
                                               size_t *scratch, err *e);
void onednn_conv_destroy(onednn_conv *c);

/* Memory of one run.  Forward reads src, filter, bias, residual and writes dst; backward data reads
 * dst, filter and writes src; backward weights reads src, dst and writes filter, bias. */
typedef struct onednn_conv_args {
    const float *src, *dst, *filter, *bias, *residual; /* written ones are cast back */
    void *scratch;
    uint64_t version; /* of a frozen filter: 0, or a value that changes with it; equal ones are packed once */
} onednn_conv_args;
DDPM_MUST_CHECK ddpm_status onednn_conv_run(onednn_conv *c, const onednn_conv_args *a, err *e);

/* Row-major C [m, n] = alpha op(A) op(B) + beta C, op = transpose where asked; ld: elements a row. */
typedef struct onednn_gemm_args {
    bool transpose_a, transpose_b;
    int64_t m, n, k;
    float alpha, beta;
    const float *a, *b;
    float *c;
    int64_t lda, ldb, ldc;
} onednn_gemm_args;
DDPM_MUST_CHECK ddpm_status onednn_gemm(const onednn_gemm_args *g, err *e);

#endif
