/* big_endian.h - numbers as PNG and IDX files hold them, highest byte first. */
#ifndef DDPM_BIG_ENDIAN_H
#define DDPM_BIG_ENDIAN_H
#include <stdint.h>

static inline uint32_t big_endian(const uint8_t p[4])
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
