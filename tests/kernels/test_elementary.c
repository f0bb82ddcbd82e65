/* log, exp, sin and cos against the C library's in double.  The bounds in the header come from every
 * float of the ranges; here every few hundredth is tried, and the worst ones found. */
#include "math/elementary.h"
#include <criterion/criterion.h>

/* |got - exact| in units of the last place of a float as large as exact. */
static double ulps(float got, double exact)
{
    int exponent;
    if (exact == 0) return got == 0.0f ? 0 : INFINITY;
    frexp(exact, &exponent);
    return fabs((double)got - exact) / ldexp(1.0, (exponent < -125 ? -125 : exponent) - 24);
}

Test(elementary, log)
{
    double worst = ulps(log_f32(0x1.42c0ep-1f), log(0x1.42c0ep-1));
    for (uint32_t u = 0x00800000; u < 0x7F800000; u += 211)
        worst = fmax(worst, ulps(log_f32(bits_float(u)), log((double)bits_float(u))));
    for (uint32_t u = 0x3F7FF000; u < 0x3F801000; u++)
        worst = fmax(worst, ulps(log_f32(bits_float(u)), log((double)bits_float(u))));
    cr_assert(worst < 0.95, "%g ulp", worst);
    cr_assert_eq(log_f32(1.0f), 0.0f);
}

Test(elementary, exp)
{
    double worst = ulps(exp_f32(0x1.4cc98p+2f), exp(0x1.4cc98p+2));
    for (uint32_t u = 0; u <= 0x42B17217; u += 97) /* up to ln(largest float) */
        worst = fmax(worst, ulps(exp_f32(bits_float(u)), exp((double)bits_float(u))));
    for (uint32_t u = 0x80000000; u <= 0xC2D40000; u += 97) /* through the subnormal results to 0 */
        worst = fmax(worst, ulps(exp_f32(bits_float(u)), exp((double)bits_float(u))));
    cr_assert(worst < 0.92, "%g ulp", worst);
}

Test(elementary, exp_at_the_ends)
{
    cr_assert_eq(exp_f32(0.0f), 1.0f);
    cr_assert_eq(exp_f32(-0.0f), 1.0f);
    cr_assert_eq(exp_f32(INFINITY), INFINITY);
    cr_assert_eq(exp_f32(-INFINITY), 0.0f);
    cr_assert_eq(exp_f32(88.73f), INFINITY);
    cr_assert_eq(exp_f32(1e30f), INFINITY);
    cr_assert_eq(exp_f32(-104.0f), 0.0f);
    cr_assert_eq(exp_f32(-1e30f), 0.0f);
    cr_assert(exp_f32(-103.0f) > 0.0f);
    cr_assert(isnan(exp_f32(NAN)));
    cr_assert(isnan(exp_f32(-NAN)));
}

Test(elementary, sigmoid)
{
    double worst = ulps(sigmoid_f32(-0x1.0a2bd8p+4f), 1 / (1 + exp(0x1.0a2bd8p+4)));
    for (uint32_t u = 0; u <= 0x42AE0000; u += 97) /* to 87, both ways */
        for (int sign = -1; sign <= 1; sign += 2) {
            const float z = (float)sign * bits_float(u);
            worst = fmax(worst, ulps(sigmoid_f32(z), 1 / (1 + exp(-(double)z))));
        }
    cr_assert(worst < 2.49, "%g ulp", worst);
}

Test(elementary, sigmoid_at_the_ends)
{
    cr_assert_eq(sigmoid_f32(0.0f), 0.5f);
    cr_assert_eq(sigmoid_f32(INFINITY), 1.0f);
    cr_assert_eq(sigmoid_f32(100.0f), 1.0f);
    cr_assert_eq(sigmoid_f32(-INFINITY), sigmoid_f32(-87.0f));
    cr_assert(sigmoid_f32(-1e30f) > 0.0f);
    cr_assert(isnan(NAN * sigmoid_f32(NAN)));
}

Test(elementary, sincos)
{
    double worst = 0, off = 0;
    const float hard[] = {0x1.bd5a2p+11f, 0x1.b47424p+11f, 8192.0f, -8192.0f, 0x1.921fb6p+0f};
    for (uint32_t u = 0; u < 5 + 0x46000000u / 211; u++) {
        const float x = u < 5 ? hard[u] : (u & 1 ? -1.0f : 1.0f) * bits_float((u - 5) * 211);
        const sincos_pair p = sincos_f32(x);
        worst = fmax(worst, fmax(ulps(p.sin, sin((double)x)), ulps(p.cos, cos((double)x))));
        off = fmax(off, fmax(fabs((double)p.sin - sin((double)x)), fabs((double)p.cos - cos((double)x))));
    }
    cr_assert(worst < 1.53, "%g ulp", worst);
    cr_assert(off < 7.1e-8, "%g", off);
}

Test(elementary, sincos_stays_good_to_2_to_the_21)
{
    double off = 0;
    for (uint32_t u = 0x46000000; u < 0x4A000000; u += 61) {
        const float x = bits_float(u);
        const sincos_pair p = sincos_f32(x);
        off = fmax(off, fmax(fabs((double)p.sin - sin((double)x)), fabs((double)p.cos - cos((double)x))));
    }
    cr_assert(off < 1.1e-7, "%g", off);
}
