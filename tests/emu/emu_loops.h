/* emu_loops.h - convolution, matrix products and attention as plain loops over their definitions.
 *
 * Inputs are floats, sums are double, the caller rounds.  Built without sanitizers, for speed: the caller has checked
 * the extents of all operands.  Results do not depend on the number of threads. */
#ifndef DDPM_EMU_LOOPS_H
#define DDPM_EMU_LOOPS_H
#include <cstdint>
extern "C" {
#include "backend/conv_shape.h"
}

namespace emu
{
/* One function for each pass; s.pass is not read.  f [cout, kernel, kernel, cin] */
void conv_forward(const conv_shape &s, const float *x, const float *f, double *y);
void conv_data(const conv_shape &s, const float *y, const float *f, double *x);
void conv_filter(const conv_shape &s, const float *x, const float *y, double *f);

/* d [m, n] = a [m, k] b [k, n] */
void product(int64_t m, int64_t n, int64_t k, const float *a, const float *b, double *d);

/* qkv [n, s, 3, heads, d]; y [n, s, heads, d]; lse [n, heads, s], the log of the softmax's denominators */
struct attention_shape {
    int64_t n, s, heads, d;
};
void attention_forward(const attention_shape &t, const float *qkv, double *y, double *lse);
void attention_backward(const attention_shape &t, const float *qkv, const float *y, const float *lse, const float *dy,
                        double *dqkv);
} // namespace emu

#endif
