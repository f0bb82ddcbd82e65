/* power.h - ln, exp and x^y in double, bitwise the same on every processor.
 *
 * For scalars of the optimizer, one value a step.  As elementary.h, these use only operations that IEEE 754 defines
 * exactly, in the order written: the C library's pow() and CUDA's differ in the last bits. */
#ifndef DDPM_POWER_H
#define DDPM_POWER_H
#include "cuda_port.h"
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LN2_HIGH 0x1.62e42fefap-1      /* 36 bits: exact times any exponent */
#define LN2_LOW  0x1.cf79abc9e3b39p-40 /* ln 2 - LN2_HIGH */

/* ln x for finite normal x > 0; relative error < 3.5e-16. */
HD double log_f64(double x)
{
    /* x = 2^e m, m in [sqrt(1/2), sqrt(2)); ln m = 2 artanh(s), s = (m - 1) / (m + 1), s^2 < 0.0295 */
    uint64_t bits;
    double m;
    memcpy(&bits, &x, sizeof bits);
    const uint64_t e = (bits - 0x3FE6A09E667F3BCDu) & 0xFFF0000000000000u, mantissa = bits - e;
    memcpy(&m, &mantissa, sizeof m);
    const double exponent = (double)(int64_t)e * 0x1p-52, s = (m - 1.0) / (m + 1.0), z = s * s;
    double series = 0.0; /* 1/3 + z/5 + z^2/7 + ... */
    for (int k = 25; k >= 3; k -= 2) series = 1.0 / k + z * series;
    return exponent * LN2_HIGH + (2.0 * s + (2.0 * s * (z * series) + exponent * LN2_LOW));
}

/* e^x for x <= 700; 0 below -700; relative error < 4e-16. */
HD double exp_f64(double x)
{
    if (!(x >= -700.0)) return 0.0;
    const double magic = 6755399441055744.0, n = (x * 1.4426950408889634 + magic) - magic; /* x = n ln 2 + r */
    const double r = fma(n, -LN2_LOW, fma(n, -LN2_HIGH, x));
    double p = 1.0;
    for (int k = 14; k >= 1; k--) p = 1.0 + p * (r / k);
    const uint64_t bits = (uint64_t)((int64_t)n + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

/* x^y for finite normal x > 0; 0 below e^-700, at most e^700; relative error < (4 + |y ln x|) 3e-16. */
HD double pow_f64(double x, double y) { return exp_f64(y * log_f64(x)); }

#endif
