/* conv_shape.h - a pass of a convolution and its sizes, for both backends. */
#ifndef DDPM_CONV_SHAPE_H
#define DDPM_CONV_SHAPE_H
#include <stdbool.h>
#include <stdint.h>

struct tensor;

typedef enum conv_pass {
    CONV_PASS_FORWARD,          /* y = conv(x, w) */
    CONV_PASS_BACKWARD_DATA,    /* dx from dy and w; also a transposed convolution */
    CONV_PASS_BACKWARD_WEIGHTS, /* dw from x and dy */
} conv_pass;
enum { CONV_PASSES = 3 };

/* In every pass the sizes are those of the forward convolution, from x to y, with w [cout, kernel, kernel, cin]. */
typedef struct conv_shape {
    conv_pass pass;
    int64_t n, h, w, cin;   /* x */
    int64_t oh, ow, cout;   /* y [n, oh, ow, cout] */
    int kernel, stride;     /* 1, 3 or 4; 1 or 2 */
    int pad_begin, pad_end; /* rows and columns of zeros above and left; below and right */
} conv_shape;

/* Of the convolution from x to y, or of a backward pass, where x or y is a gradient; with (kernel - 1) / 2 rows and
 * columns of zeros on all sides, or, with only_end, none above and left. */
conv_shape conv_shape_of(conv_pass pass, const struct tensor *x, const struct tensor *y, int kernel, int stride,
                         bool only_end);

/* A pass of upconv from `small` [n, h, w, cin] to `large` [n, 2h, 2w, cout], as the 3x3 convolution of the upsampled
 * image, or as a pass of the 4x4 convolution with the folded filter, which maps `large` to `small` with stride 2: its
 * backward-data pass is the forward pass of upconv. */
conv_shape conv_shape_of_upconv(conv_pass pass, const struct tensor *small, const struct tensor *large);
conv_shape conv_shape_of_fold(conv_pass pass, const struct tensor *small, const struct tensor *large);

/* numbers of elements */
static inline int64_t conv_x_count(const conv_shape *s) { return s->n * s->h * s->w * s->cin; }
static inline int64_t conv_y_count(const conv_shape *s) { return s->n * s->oh * s->ow * s->cout; }
static inline int64_t conv_w_count(const conv_shape *s) { return s->cout * s->kernel * s->kernel * s->cin; }

#endif
