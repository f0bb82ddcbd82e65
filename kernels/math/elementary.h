/* elementary.h - log, exp, sin and cos in float, bitwise the same on every processor.
 *
 * Uses only operations that IEEE 754 defines exactly (+, -, *, fused multiply-add, integer arithmetic), in the order
 * written: build with -ffp-contract=off, nvcc with -fmad=false.  There are no branches, tables or slow paths, so
 * loops over these functions vectorize and kernels need no stack.
 *
 * The polynomials are minimax fits (Remez), with coefficients rounded to float one after another.  The stated errors
 * are the largest over every float of the stated range, in units in the last place (ulp). */
#ifndef DDPM_ELEMENTARY_H
#define DDPM_ELEMENTARY_H
#include "cuda_port.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Adding 1.5 * 2^23 rounds |x| < 2^22 to an integer, which appears in the low bits of the sum. */
#define ROUND_MAGIC 12582912.0f

HD uint32_t float_bits(float x)
{
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

HD float bits_float(uint32_t u)
{
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

HD int is_finite(double x) { return x - x == 0.0; }

/* ln x for finite normal x > 0; error < 0.95 ulp. */
HD float log_f32(float x)
{
    /* x = 2^e m, m in [2/3, 4/3): cancellation near x = 1 is exact */
    const uint32_t e = (float_bits(x) - 0x3F2AAAABu) & 0xFF800000u;
    const float f = bits_float(float_bits(x) - e) - 1.0f, exponent = (float)(int32_t)e * 0x1p-23f;
    float p = -0x1.080924p-3f; /* ln(1 + f) = f + f^2 (-1/2 + f p(f)), relative error 2^-27.6 */
    p = fmaf(p, f, 0x1.1e6a3ep-3f);
    p = fmaf(p, f, -0x1.f30fc2p-4f);
    p = fmaf(p, f, 0x1.1ed670p-3f);
    p = fmaf(p, f, -0x1.559dd8p-3f);
    p = fmaf(p, f, 0x1.99d032p-3f);
    p = fmaf(p, f, -0x1.fffef0p-3f);
    p = fmaf(p, f, 0x1.555506p-2f);
    p = fmaf(p, f, -0.5f);
    return fmaf(exponent, 0x1.62e430p-1f, fmaf(f * f, p, f));
}

/* e^r for |r| <= ln(2) / 2, relative error 2^-28.2 before rounding. */
HD float exp_reduced(float r)
{
    float p = 0x1.6a2352p-10f;
    p = fmaf(p, r, 0x1.123a6cp-7f);
    p = fmaf(p, r, 0x1.5558f4p-5f);
    p = fmaf(p, r, 0x1.555490p-3f);
    p = fmaf(p, r, 0x1.fffffcp-2f);
    p = fmaf(p, r, 1.0f);
    return fmaf(p, r, 1.0f);
}

/* e^x for every x: 0 below -104, infinity from 88.73, NaN for NaN, subnormal results rounded once;
 * error < 0.92 ulp. */
HD float exp_f32(float x)
{
    const float low = x < -104.0f ? -104.0f : x, bounded = low > 89.0f ? 89.0f : low;    /* NaN passes through both */
    const float sum = fmaf(bounded, 0x1.715476p+0f, ROUND_MAGIC), n = sum - ROUND_MAGIC; /* x = n ln 2 + r */
    const float r = fmaf(n, 0x1.05c610p-29f, fmaf(n, -0x1.62e430p-1f, bounded));
    const float p = exp_reduced(r);
    /* 2^n in two factors, since n runs from -150 to 128 and a float's exponent from -126 to 127 */
    const int32_t whole = (int32_t)(float_bits(sum) - float_bits(ROUND_MAGIC)), half = whole / 2;
    return p * bits_float((uint32_t)(half + 127) << 23) * bits_float((uint32_t)(whole - half + 127) << 23);
}

/* 1 / (1 + e^-z) for |z| <= 87, clamped to its values at +-87 outside; error < 2.49 ulp.  In this range a single
 * factor 2^n suffices, so this takes fewer instructions than exp_f32().  Some NaN inputs give numbers: callers
 * multiply the result by z. */
HD float sigmoid_f32(float z)
{
    const float low = z < -87.0f ? -87.0f : z, bounded = low > 87.0f ? 87.0f : low;
    const float sum = fmaf(bounded, -0x1.715476p+0f, ROUND_MAGIC), n = sum - ROUND_MAGIC; /* -z = n ln 2 + r */
    const float r = fmaf(n, 0x1.05c610p-29f, fmaf(n, -0x1.62e430p-1f, -bounded));
    /* the low bits of sum are n */
    return 1.0f / (1.0f + bits_float(float_bits(exp_reduced(r)) + (float_bits(sum) << 23)));
}

typedef struct sincos_pair {
    float sin, cos;
} sincos_pair;

/* sin and cos of r + quarters * pi / 2, |r| <= pi / 4; only the low two bits of `quarters` matter. */
HD sincos_pair sincos_reduced(float r, uint32_t quarters)
{
    const float z = r * r;
    float s = -0x1.9953fep-13f; /* sin r = r + r^3 s(r^2), relative error 2^-27.9 */
    s = fmaf(s, z, 0x1.110778p-7f);
    s = fmaf(s, z, -0x1.555546p-3f);
    s = fmaf(s * z, r, r);
    float c = 0x1.99e80cp-16f; /* cos r = 1 - z / 2 + z^2 c(z), relative error 2^-32.9 */
    c = fmaf(c, z, -0x1.6c0c28p-10f);
    c = fmaf(c, z, 0x1.55554ap-5f);
    c = fmaf(c, z, -0.5f);
    c = fmaf(c, z, 1.0f);
    const uint32_t swap = 0u - (quarters & 1u), sin_bits = float_bits(s), cos_bits = float_bits(c);
    const uint32_t either = (sin_bits ^ cos_bits) & swap; /* swaps sine and cosine in odd quarters */
    const sincos_pair pair = {bits_float(sin_bits ^ either ^ (quarters & 2u) << 30),
                              bits_float(cos_bits ^ either ^ ((quarters + 1u) & 2u) << 30)};
    return pair;
}

/* sin x and cos x for |x| <= 8192: error < 1.53 ulp, also near the zeros, and < 7.1e-8 absolute.  Up to 2^21 the
 * error stays below 1.1e-7; beyond, the result is meaningless.  Uses Cody and Waite's reduction: pi / 2 in three
 * parts, of which the first is subtracted exactly. */
HD sincos_pair sincos_f32(float x)
{
    const float sum = fmaf(x, 0x1.45f306p-1f, ROUND_MAGIC), n = sum - ROUND_MAGIC;
    float r = fmaf(n, -0x1.921fb6p+0f, x);
    r = fmaf(n, 0x1.777a5cp-25f, r);
    r = fmaf(n, 0x1.ee59dap-50f, r);
    return sincos_reduced(r, float_bits(sum));
}

#endif
