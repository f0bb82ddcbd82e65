/* big_endian.h - reading big-endian integers, as PNG and IDX files store them. */
#ifndef DDPM_BIG_ENDIAN_H
#define DDPM_BIG_ENDIAN_H
#include <stdint.h>

static inline uint32_t big_endian(const uint8_t p[4])
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

#endif
