/* cpu_conv.h - convolutions on the cpu: the operands of the passes, and the algorithms.
 *
 * The algorithms are rows of a table in cpu_conv.c; the first that accepts a step computes it:
 *   thin      between an image of few channels and one of many (conv/cpu_conv_thin.h)
 *   winograd  3x3 of stride 1 (conv/cpu_winograd.h), if autotuning finds it faster than the direct algorithm
 *   gemm      1x1 in NHWC: a matrix product over all pixels
 *   onednn    everything else */
#ifndef DDPM_CPU_CONV_H
#define DDPM_CPU_CONV_H
#include "backend/cpu/conv/cpu_conv_thin.h"
#include "backend/cpu/conv/cpu_winograd.h"
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/lib/cpu_layout.h"

/* The operands of a pass; NULL if absent. */
typedef struct conv_operands {
    conv_pass pass;
    const tensor *x[2];     /* sources; backward data: their gradients, of which the first may be absent */
    const tensor *y;        /* forward: the result; backward: its gradient */
    const tensor *w;        /* [cout, k, k, c1 + c2]; backward weights: its gradient */
    const tensor *bias;     /* [cout]; backward weights: its gradient */
    const tensor *residual; /* forward: added to the result */
} conv_operands;

typedef struct conv_algo_row conv_algo_row;

/* step.impl: created by prepare(), used by run(). */
typedef struct conv_impl {
    const conv_algo_row *algo;
    thin_conv thin;           /* thin */
    winograd_spec winograd;   /* winograd */
    tensor_layout layout;     /* gemm, onednn: the layout that the kernel needs */
    staged x[2], y, residual; /* gemm, onednn: the operands in that layout */
    onednn_conv *conv[2];     /* onednn: one primitive for each source */
    size_t workspace;         /* onednn: offset in bytes of the library's workspace in step.scratch */
} conv_impl;

struct conv_algo_row {
    const char *name;
    /* *yes: can the algorithm compute the step? s->impl exists and its layout is set. */
    ddpm_status (*accepts)(cpu_backend *be, const step *s, const conv_operands *o, bool *yes, err *e);
    ddpm_status (*prepare)(cpu_backend *be, const step *s, const conv_operands *o, size_t *scratch, err *e);
    ddpm_status (*run[CONV_PASSES])(const step *s, const conv_operands *o, err *e); /* by pass */
};

extern const conv_algo_row cpu_conv_gemm, cpu_conv_onednn;

static inline conv_impl *conv_impl_of(const step *s) { return s->impl; }

/* The oneDNN convolution of source i, which maps x[i] to y. */
onednn_conv_spec cpu_conv_onednn_spec(const step *s, const conv_operands *o, int i);

/* Plans copies of operands in other layouts; `only_sets`: the kernel cannot accumulate the gradient of a source. */
void cpu_conv_stage(const step *s, const conv_operands *o, bool only_sets, size_t *scratch);

#endif
