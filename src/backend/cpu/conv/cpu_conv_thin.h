/* cpu_conv_thin.h - 3x3 convolutions between an image of few channels and an activation of many.
 *
 * These are a network's first and last convolution. oneDNN's kernels fill registers with channels of both sides,
 * which leaves most lanes empty here.  The thin image has at most THIN_MAX channels in NHWC; the wide one is in
 * blocks of 16 channels or in NHWC.  Our kernels fill a register with 16 channels of the wide image. */
#ifndef DDPM_CPU_CONV_THIN_H
#define DDPM_CPU_CONV_THIN_H
#include "ir/step.h"

enum { THIN_MAX = 4 };

/* A convolution of stride 1 with zero padding of 1 on all sides. */
typedef struct thin_conv {
    const tensor *wide, *thin; /* images of the same size, or their gradients */
    bool from_thin;            /* true: reads thin, filter [cout, 3, 3, thin channels]; false: writes thin */
} thin_conv;

/* True, and sets *c, if the convolution from x (and x2) to y, or its backward pass, is such a convolution. */
bool thin_takes(const step *s, const tensor *x, const tensor *x2, const tensor *y, thin_conv *c);
size_t thin_scratch(const thin_conv *c); /* bytes of workspace, enough for each of the three functions */

/* wide (=, or += with add) conv(thin) + bias (NULL: none): the forward pass if it reads thin, otherwise the gradient
 * of the input.  Writes to c->wide, casting const away. */
void thin_spread(const thin_conv *c, const float *filter, const float *bias, bool add, void *scratch);
/* thin (=, or += with add) conv(wide) + bias (NULL: none): the forward pass if it writes thin, otherwise the
 * gradient of the input. */
void thin_gather(const thin_conv *c, const float *filter, const float *bias, bool add, void *scratch);

typedef struct thin_gradients {
    float *filter, *bias; /* bias NULL: not needed */
    bool add, add_bias;
} thin_gradients;
/* The gradients of filter and bias, from one image and the gradient of the other.  Sums over a row of pixels run in
 * f32; rows and images are added in a fixed order. */
void thin_correlate(const thin_conv *c, const thin_gradients *g, void *scratch);

#endif
