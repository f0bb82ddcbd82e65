/* storage.h - loads and stores of activations in their storage type: float, or bf16 in bf16 precision.
 *
 * Arithmetic is in float; only loads and stores depend on the type.  Element indices are the same for both. */
#ifndef DDPM_STORAGE_H
#define DDPM_STORAGE_H
#include "math/bf16.h"
#include "quad.h"

typedef enum storage { STORE_F32, STORE_BF16 } storage;

typedef struct __attribute__((aligned(8))) bf16_quad {
    bf16 v[4];
} bf16_quad;

HD float load_at(const void *p, storage s, int64_t i)
{
    return s == STORE_BF16 ? bf16_to_f32(((const bf16 *)p)[i]) : ((const float *)p)[i];
}

HD void store_at(void *p, storage s, int64_t i, float v)
{
    if (s == STORE_BF16)
        ((bf16 *)p)[i] = bf16_of(v);
    else
        ((float *)p)[i] = v;
}

/* The value of v after a store and a load. */
HD float as_stored(float v, storage s) { return s == STORE_BF16 ? bf16_to_f32(bf16_of(v)) : v; }

/* v = elements at .. at + count of p, padded with 0; one access if the quad is full and aligned. */
HD void quad_load_as(float *v, const void *p, storage s, int64_t at, int count)
{
    const bf16 *low = (const bf16 *)p + at;
    if (s == STORE_F32)
        quad_load(v, (const float *)p + at, count);
    else if (count == 4 && ((uintptr_t)low & 7u) == 0) {
        const bf16_quad in = *(const bf16_quad *)low;
        for (int k = 0; k < 4; k++) v[k] = bf16_to_f32(in.v[k]);
    } else
        for (int k = 0; k < 4; k++) v[k] = k < count ? bf16_to_f32(low[k]) : 0.0f;
}

HD void quad_store_as(void *p, storage s, int64_t at, const float *v, int count)
{
    bf16 *low = (bf16 *)p + at;
    if (s == STORE_F32)
        quad_store((float *)p + at, v, count);
    else if (count == 4 && ((uintptr_t)low & 7u) == 0) {
        const bf16_quad out = {{bf16_of(v[0]), bf16_of(v[1]), bf16_of(v[2]), bf16_of(v[3])}};
        *(bf16_quad *)low = out;
    } else
        for (int k = 0; k < 4; k++)
            if (k < count) low[k] = bf16_of(v[k]);
}

#endif
