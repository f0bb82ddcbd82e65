/* noise_golden.h - the bits of the noise.  Every run that was ever stored depends on them: if a hash
 * changes, the noise has changed, and no longer continues old runs. */
#ifndef DDPM_NOISE_GOLDEN_H
#define DDPM_NOISE_GOLDEN_H
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define GOLDEN_NORMALS UINT64_C(0xFED2BB931778D9D2)
#define GOLDEN_SINCOS  UINT64_C(0x707317C38F539FF6)
#define GOLDEN_EXP     UINT64_C(0xB98EA9419417340B)

/* FNV-1a (Fowler, Noll & Vo) over the bytes of v[n]. */
static inline uint64_t hash_floats(const float *v, size_t n)
{
    uint64_t h = UINT64_C(0xCBF29CE484222325);
    for (size_t i = 0; i < n; i++) {
        unsigned char byte[sizeof *v];
        memcpy(byte, &v[i], sizeof byte);
        for (size_t k = 0; k < sizeof byte; k++) h = (h ^ byte[k]) * UINT64_C(0x100000001B3);
    }
    return h;
}

#endif
