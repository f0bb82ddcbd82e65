/* conv_pass.h - the passes of a convolution, for both backends. */
#ifndef DDPM_CONV_PASS_H
#define DDPM_CONV_PASS_H

typedef enum conv_pass {
    CONV_PASS_FORWARD,          /* y = conv(x, w) */
    CONV_PASS_BACKWARD_DATA,    /* dx from dy and w; also a transposed convolution */
    CONV_PASS_BACKWARD_WEIGHTS, /* dw from x and dy */
} conv_pass;
enum { CONV_PASSES = 3 };

#endif
