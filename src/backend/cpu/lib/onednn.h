/* onednn.h - the only interface to oneDNN, versions 2.4 to 3.x: convolutions and matrix products on f32 memory. */
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
/* Version of the loaded library and the instruction set it uses on this machine: "oneDNN 2.6.3, AVX-512". */
void onednn_describe(char *text, size_t cap);

/* Does this machine have kernels for activations in blocks of channels? */
bool onednn_has_blocked_kernels(void);

/* True if the loaded oneDNN may split sums of a convolution by the number of threads, so that results depend on it.
 * Versions before 3.0 do so for the gradient of the filter only; 3.12 was seen to do so for outputs and for the
 * gradient of the input, too. */
bool onednn_sums_by_thread(void);

/* A convolution; x, y and w of its shape are here src, dst and filter. */
typedef struct onednn_conv_spec {
    conv_shape shape;
    int64_t filter_ld;  /* channels from one filter position to the next; 0: cin */
    bool blocked;       /* src and dst are [n, c / 16, h, w, 16]; otherwise NHWC */
    bool bias;          /* forward: added; backward weights: its gradient is computed */
    bool residual;      /* forward, NHWC: dst = conv + bias + residual */
    bool sum;           /* forward, blocked: dst += conv + bias */
    bool add, add_bias; /* backward weights: accumulate the gradient of the filter, of the bias */
    bool frozen;        /* the filter seldom changes: keep its packed copy from run to run */
} onednn_conv_spec;

typedef struct onednn_conv onednn_conv;

/* DDPM_EBACKEND: the message has oneDNN's reason.  *scratch: bytes of workspace for a run. */
DDPM_MUST_CHECK ddpm_status onednn_conv_create(onednn *d, const onednn_conv_spec *spec, onednn_conv **out,
                                               size_t *scratch, err *e);
void onednn_conv_destroy(onednn_conv *c);

/* Operands of one run.  Forward reads src, filter, bias, residual and writes dst; backward data reads dst, filter
 * and writes src; backward weights reads src, dst and writes filter, bias. */
typedef struct onednn_conv_args {
    const float *src, *dst, *filter, *bias, *residual; /* outputs are cast to non-const */
    void *scratch;
    /* of a frozen filter: changes whenever the filter does; the filter is packed again if version is new, or 0 */
    uint64_t version;
} onednn_conv_args;
DDPM_MUST_CHECK ddpm_status onednn_conv_run(onednn_conv *c, const onednn_conv_args *a, err *e);

/* Row-major C [m, n] = alpha op(A) op(B) + beta C, where op transposes if asked; ld: elements from row to row. */
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
