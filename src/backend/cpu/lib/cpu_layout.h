/* cpu_layout.h - activations in blocks of 16 channels, and conversion from and to NHWC.
 *
 * oneDNN's AVX-512 kernels for strided and 1x1 convolutions are fastest on [n, c / 16, h, w, 16]; norms and
 * Winograd's transforms then read memory sequentially, and a training step takes about 8 % less time than in NHWC.
 * So activations are blocked on every machine that has such kernels.  A tensor stays NHWC if an op needs rows of
 * pixels (attention, matrices), if its channels do not fill blocks, or if it is read from outside the plan. */
#ifndef DDPM_CPU_LAYOUT_H
#define DDPM_CPU_LAYOUT_H
#include "base/err.h"
#include "ir/step.h"

enum { CHANNEL_BLOCK = 16 };

/* Implements backend_table.arrange on machines with kernels for blocked layouts. */
void cpu_arrange(step *const *steps, int n);

/* y (=, or += with add) x, both of t's shape, each in its own layout. */
void cpu_relayout(const tensor *t, const float *x, tensor_layout x_layout, float *y, tensor_layout y_layout, bool add);

/* Floats from one image, one block of channels, one pixel to the next. */
typedef struct cpu_strides {
    int64_t image, block, pixel;
} cpu_strides;

static inline cpu_strides cpu_strides_of(const tensor *t, tensor_layout layout)
{
    const int64_t image = t->c * tensor_hw(t);
    if (layout == LAYOUT_BLOCKED) return (cpu_strides){image, CHANNEL_BLOCK * tensor_hw(t), CHANNEL_BLOCK};
    return (cpu_strides){image, CHANNEL_BLOCK, t->c};
}

/* The position in memory of element i of image b, where i counts in NHWC order. */
static inline int64_t cpu_element(const tensor *t, int64_t b, int64_t i)
{
    const int64_t hw = tensor_hw(t), pixel = i / t->c, c = i % t->c;
    if (t->layout == LAYOUT_NHWC) return b * hw * t->c + i;
    return (b * t->c + c - c % CHANNEL_BLOCK) * hw + pixel * CHANNEL_BLOCK + c % CHANNEL_BLOCK;
}

/* An operand in the layout a kernel needs: the tensor itself, or a copy in the step's workspace. */
typedef struct staged {
    const tensor *t; /* NULL: the operand is absent */
    tensor_layout layout;
    size_t at; /* offset of the copy in the workspace, bytes */
    bool copied;
    bool add; /* an output that the step accumulates into */
} staged;

/* Plans a copy if one is needed and adds its size to *end: for another layout, or (with `add`, for a kernel that can
 * only overwrite) for an output that is accumulated into. */
staged stage(const tensor *t, tensor_layout layout, bool add, size_t *end);
const float *stage_read(const staged *g, const step *s); /* NULL if the operand is absent */
float *stage_write(const staged *g, const step *s);
/* call after the kernel has written: copies or adds the result to the tensor */
void stage_done(const staged *g, const step *s);

#endif
