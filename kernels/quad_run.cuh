/* quad_run.cuh - several equidistant quads of one thread, all loaded before the first is used: a GPU needs some tens
 * of kilobytes in flight per multiprocessor to saturate its memory. */
#ifndef DDPM_QUAD_RUN_CUH
#define DDPM_QUAD_RUN_CUH
#include "storage.h"

/* Quad k, k < n, starts at element at + k * stride and has `count` elements, 0 to 4. */
typedef struct quad_run {
    int64_t at, stride;
    int n, count;
} quad_run;

template <int N> static __device__ __forceinline__ bool run_is_plain(const quad_run &r, const void *p, unsigned bytes)
{
    return r.n == N && r.count == 4 && r.stride % 4 == 0 && ((uintptr_t)p & (bytes - 1)) == 0;
}

/* v[k] = quad k of p, padded with 0 beyond its count and beyond n <= N. */
template <int N>
static __device__ __forceinline__ void run_load(float (*v)[4], const void *p, storage s, const quad_run &r)
{
    if (s == STORE_F32 && run_is_plain<N>(r, (const float *)p + r.at, 16)) {
        float_quad in[N];
        for (int k = 0; k < N; k++) in[k] = *(const float_quad *)((const float *)p + r.at + k * r.stride);
        for (int k = 0; k < N; k++)
            for (int i = 0; i < 4; i++) v[k][i] = in[k].v[i];
    } else if (s == STORE_BF16 && run_is_plain<N>(r, (const bf16 *)p + r.at, 8)) {
        bf16_quad in[N];
        for (int k = 0; k < N; k++) in[k] = *(const bf16_quad *)((const bf16 *)p + r.at + k * r.stride);
        for (int k = 0; k < N; k++)
            for (int i = 0; i < 4; i++) v[k][i] = bf16_to_f32(in[k].v[i]);
    } else
        for (int k = 0; k < N; k++)
            for (int i = 0; i < 4; i++)
                v[k][i] = k < r.n && i < r.count ? load_at(p, s, r.at + k * r.stride + i) : 0.0f;
}

template <int N>
static __device__ __forceinline__ void run_store(void *p, storage s, const quad_run &r, const float (*v)[4])
{
    for (int k = 0; k < N; k++)
        if (k < r.n) quad_store_as(p, s, r.at + k * r.stride, v[k], r.count);
}

#endif
