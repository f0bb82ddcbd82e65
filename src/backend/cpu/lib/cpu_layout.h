/* cpu_layout.h - activations in blocks of 16 channels, and the borders between them and NHWC.
 *
 * oneDNN's AVX-512 kernels for strided and 1x1 convolutions are at their best on [n, c / 16, h, w, 16], norms and
 * Winograd's transforms then read memory in its order, and a training step is about 8 % shorter than in NHWC; so
 * wherever the machine has such kernels activations are kept that way.  A tensor stays NHWC where an op wants rows of
 * pixels (attention, matrices), where its channels do not fill blocks, and where others read it. */
#ifndef DDPM_CPU_LAYOUT_H
#define DDPM_CPU_LAYOUT_H
#include "base/err.h"
#include "ir/step.h"

enum { CHANNEL_BLOCK = 16 };

/* backend_table.arrange, where the machine has kernels for blocks. */
void cpu_arrange(step *const *steps, int n);

/* y (=, += with add) x, both of t's shape, each in its own layout. */
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

/* Where element i of image b, counted in NHWC, lies. */
static inline int64_t cpu_element(const tensor *t, int64_t b, int64_t i)
{
    const int64_t hw = tensor_hw(t), pixel = i / t->c, c = i % t->c;
    if (t->layout == LAYOUT_NHWC) return b * hw * t->c + i;
    return (b * t->c + c - c % CHANNEL_BLOCK) * hw + pixel * CHANNEL_BLOCK + c % CHANNEL_BLOCK;
}

/* An operand as a kernel wants it: itself, or a copy in the step's scratch. */
typedef struct staged {
    const tensor *t; /* NULL: the operand is absent */
    tensor_layout layout;
    size_t at; /* bytes into the scratch */
    bool copied;
    bool add; /* an output that is added to */
} staged;

/* *end grows by the copy that is needed: another layout, or (with `add`, for a kernel that only sets) an
 * output to be added to. */
staged stage(const tensor *t, tensor_layout layout, bool add, size_t *end);
const float *stage_read(const staged *g, const step *s); /* NULL where it is absent */
float *stage_write(const staged *g, const step *s);
void stage_done(const staged *g, const step *s); /* after the kernel has written */

#endif
