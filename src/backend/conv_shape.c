#include "backend/conv_shape.h"
#include "ir/step.h"

conv_shape conv_shape_of(conv_pass pass, const tensor *x, const tensor *y, int kernel, int stride, bool only_end)
{
    const int pad = (kernel - 1) / 2;
    return (conv_shape){.pass = pass,
                        .n = x->n,
                        .h = x->h,
                        .w = x->w,
                        .cin = x->c,
                        .oh = y->h,
                        .ow = y->w,
                        .cout = y->c,
                        .kernel = kernel,
                        .stride = stride,
                        .pad_begin = only_end ? 0 : pad,
                        .pad_end = pad};
}

conv_shape conv_shape_of_upconv(conv_pass pass, const tensor *small, const tensor *large)
{
    conv_shape s = conv_shape_of(pass, large, large, 3, 1, false);
    s.cin = small->c;
    return s;
}

conv_shape conv_shape_of_fold(conv_pass pass, const tensor *small, const tensor *large)
{
    static const conv_pass transposed[CONV_PASSES] = {[CONV_PASS_FORWARD] = CONV_PASS_BACKWARD_DATA,
                                                      [CONV_PASS_BACKWARD_DATA] = CONV_PASS_FORWARD,
                                                      [CONV_PASS_BACKWARD_WEIGHTS] = CONV_PASS_BACKWARD_WEIGHTS};
    return conv_shape_of(transposed[pass], large, small, 4, 2, false);
}
