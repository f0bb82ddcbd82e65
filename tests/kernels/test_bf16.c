#include "math/bf16.h"
#include <criterion/criterion.h>
#include <math.h>

static float of_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static bf16 low(uint32_t bits)
{
    const bf16 x = {(uint16_t)bits};
    return x;
}

/* The value of 16 bits by the definition of the format: sign, 8 bits of exponent, 7 of fraction. */
static double value_of(uint32_t bits)
{
    const int exponent = (int)(bits >> 7 & 0xFF), fraction = (int)(bits & 0x7F);
    const double size = exponent ? ldexp(128 + fraction, exponent - 127 - 7) : ldexp(fraction, -126 - 7);
    return bits >> 15 ? -size : size;
}

static int is_nan(uint32_t bits) { return (bits & 0x7F80) == 0x7F80 && (bits & 0x7F) != 0; }

Test(bf16, every_value_is_what_the_format_says)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        const float f = bf16_to_f32(low(bits));
        if ((bits & 0x7F80) == 0x7F80)
            cr_assert(is_nan(bits) ? isnan(f) : f == (bits >> 15 ? -INFINITY : INFINITY), "%#x", bits);
        else
            cr_assert(f == value_of(bits) && !signbit(f) == !(bits >> 15), "%#x", bits);
    }
}

Test(bf16, every_value_comes_back)
{
    for (uint32_t bits = 0; bits < 0x10000; bits++)
        cr_assert_eq(bf16_of(bf16_to_f32(low(bits))).bits, is_nan(bits) ? 0x7FFF : bits, "%#x", bits);
}

/* Both neighbours of every gap, its middle and what lies next to them. */
Test(bf16, rounds_to_the_nearest_and_ties_to_even)
{
    static const uint32_t rest[] = {1, 2, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0x8002, 0xFFFF, 0x1234, 0xABCD};
    for (uint32_t bits = 0; bits < 0x10000; bits++) {
        if ((bits & 0x7F80) == 0x7F80) continue;
        for (size_t i = 0; i < sizeof rest / sizeof *rest; i++) {
            const double f = of_bits(bits << 16 | rest[i]);
            /* the number after the largest would be 2^128: it stands for infinity */
            const double down = value_of(bits),
                         up = (bits & 0x7FFF) == 0x7F7F ? copysign(0x1p128, f) : value_of(bits + 1);
            const double to_down = fabs(f - down), to_up = fabs(f - up);
            const uint32_t nearest = to_down < to_up || (to_down == to_up && bits % 2 == 0) ? bits : bits + 1;
            cr_assert_eq(bf16_of((float)f).bits, nearest, "%#x: %#x, not %#x", bits << 16 | rest[i],
                         bf16_of((float)f).bits, nearest);
        }
    }
}

Test(bf16, nan_is_one_pattern_and_never_infinity)
{
    static const uint32_t nans[] = {0x7F800001, 0x7FFFFFFF, 0x7FC00000, 0xFF800001, 0xFFFFFFFF, 0xFFC00000, 0x7F80FFFF};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) cr_assert_eq(bf16_of(of_bits(nans[i])).bits, 0x7FFF);
}
