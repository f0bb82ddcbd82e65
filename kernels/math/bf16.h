/* bf16.h - bfloat16, the upper half of a float, rounded to nearest, ties to even. */
#ifndef DDPM_BF16_H
#define DDPM_BF16_H
#include "../cuda_port.h"
#include <stdint.h>
#include <string.h>

typedef struct bf16 {
    uint16_t bits;
} bf16;

HD float bf16_to_f32(bf16 x)
{
    const uint32_t bits = (uint32_t)x.bits << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* NaN becomes 0x7FFF, as in the hardware's conversion. */
HD bf16 bf16_of(float f)
{
    bf16 x;
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(x.bits) : "f"(f));
#else
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
    x.bits = (uint16_t)((bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FFFu : rounded);
#endif
    return x;
}

#endif
