/* quad.h - four consecutive elements: the unit of work of a thread, served by one Philox call.
 *
 * `count` is 4, or less in the last quad of an array.  Aligned full quads are loaded and stored with one access. */
#ifndef DDPM_QUAD_H
#define DDPM_QUAD_H
#include "cuda_port.h"
#include <stdint.h>

/* The unit of one aligned access. */
typedef struct __attribute__((aligned(16))) float_quad {
    float v[4];
} float_quad;
typedef struct __attribute__((aligned(4))) byte_quad {
    uint8_t v[4];
} byte_quad;

HD int64_t quads_of(int64_t elements) { return (elements + 3) / 4; }

/* Number of elements in quad q < quads_of(elements): 1 .. 4. */
HD int quad_count(int64_t elements, int64_t q)
{
    const int64_t left = elements - 4 * q;
    return left < 4 ? (int)left : 4;
}

/* v[k]: chosen, not indexed, so that the quad stays in registers in a loop that is not unrolled. */
HD float quad_pick(const float *v, int k)
{
    const float low = k == 0 ? v[0] : v[1], high = k == 2 ? v[2] : v[3];
    return k < 2 ? low : high;
}

/* v = p[0 .. count), padded with 0. */
HD void quad_load(float *v, const float *p, int count)
{
    if (count == 4 && ((uintptr_t)p & 15u) == 0) {
        const float_quad in = *(const float_quad *)p;
        for (int k = 0; k < 4; k++) v[k] = in.v[k];
    } else
        for (int k = 0; k < 4; k++) v[k] = k < count ? p[k] : 0.0f;
}

HD void quad_store(float *p, const float *v, int count)
{
    if (count == 4 && ((uintptr_t)p & 15u) == 0) {
        const float_quad out = {{v[0], v[1], v[2], v[3]}};
        *(float_quad *)p = out;
    } else
        for (int k = 0; k < 4; k++)
            if (k < count) p[k] = v[k];
}

/* The same for bytes, with one access for four of them. */
HD void quad_load_bytes(uint8_t *v, const uint8_t *p, int count)
{
    if (count == 4 && ((uintptr_t)p & 3u) == 0) {
        const byte_quad in = *(const byte_quad *)p;
        for (int k = 0; k < 4; k++) v[k] = in.v[k];
    } else
        for (int k = 0; k < 4; k++) v[k] = k < count ? p[k] : (uint8_t)0;
}

HD void quad_store_bytes(uint8_t *p, const uint8_t *v, int count)
{
    if (count == 4 && ((uintptr_t)p & 3u) == 0) {
        const byte_quad out = {{v[0], v[1], v[2], v[3]}};
        *(byte_quad *)p = out;
    } else
        for (int k = 0; k < 4; k++)
            if (k < count) p[k] = v[k];
}

#endif
