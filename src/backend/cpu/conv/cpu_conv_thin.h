/* cpu_conv_thin.h - 3x3 convolutions between an image of few channels and an activation of many.
 *
 * A network's first and last convolution: oneDNN's kernels fill their registers with channels of both sides
 * and leave most lanes empty here.  Of the two images one is thin, with at most THIN_MAX channels in NHWC; the
 * other is wide, in blocks of 16 channels or in NHWC.  A register holds 16 channels of the wide one. */
#ifndef DDPM_CPU_CONV_THIN_H
#define DDPM_CPU_CONV_THIN_H
#include "ir/step.h"

enum { THIN_MAX = 4 };

/* A convolution of stride 1, its zeros all round. */
typedef struct thin_conv {
    const tensor *wide, *thin; /* images of the same size; or their gradients */
    bool from_thin;            /* the convolution reads the thin one: [cout, 3, 3, thin]; else it makes it */
} thin_conv;

/* *c, if the convolution of x to y, or its backward pass, is one of these. */
bool thin_takes(const step *s, const tensor *x, const tensor *x2, const tensor *y, thin_conv *c);
size_t thin_scratch(const thin_conv *c); /* bytes, of any of the three */

/* wide (=, += with add) thin, spread by the filter (+ bias, NULL: none): the forward pass from thin, or the
 * gradient of the input to thin.  What is written is cast back. */
void thin_spread(const thin_conv *c, const float *filter, const float *bias, bool add, void *scratch);
/* thin (=, += with add) wide, gathered by the filter (+ bias): the forward pass to thin, or the gradient of the
 * input from thin. */
void thin_gather(const thin_conv *c, const float *filter, const float *bias, bool add, void *scratch);

typedef struct thin_gradients {
    float *filter, *bias; /* bias NULL: not wanted */
    bool add, add_bias;
} thin_gradients;
/* The gradients of filter and bias, from one image and the gradient of the other.  Their sums run in f32 over a row of
 * pixels, and in a fixed order over rows and images. */
void thin_correlate(const thin_conv *c, const thin_gradients *g, void *scratch);

#endif
