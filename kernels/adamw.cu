#include "adamw.h"
#include "upconv_tile.cuh"

enum { THREADS = TILE_THREADS }; /* one thread per quad; in folded filters, per pair of channels */

/* Updates elements at .. at + count, at most a quad, and sets w[0 .. count) to the new weights unless f.clip is 0. */
static __device__ __forceinline__ void update(const adamw_args &a, const adamw_factors &f, int64_t at, int count,
                                              float w[4])
{
    const float zero[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (f.clip != 0.0f) {
        float g[4], m[4], v[4], ema[4];
        quad_load(w, a.w + at, count);
        quad_load(g, a.g + at, count);
        quad_load(m, a.m + at, count);
        quad_load(v, a.v + at, count);
        if (a.ema) quad_load(ema, a.ema + at, count);
        for (int k = 0; k < 4; k++) adamw_element(&f, g[k], &w[k], &m[k], &v[k]);
        quad_store(a.w + at, w, count);
        quad_store(a.m + at, m, count);
        quad_store(a.v + at, v, count);
        if (a.low) quad_store_as(a.low, a.low_type, at, w, count);
        if (a.ema) {
            for (int k = 0; k < 4; k++) ema[k] = adamw_ema(&f, ema[k], w[k]);
            quad_store(a.ema + at, ema, count);
        }
    }
    if (a.zero_grad) quad_store(a.g + at, zero, count);
}

/* Updates the elements of quad q outside folded filters.  These filters begin at a quad but may end within one. */
static __device__ __forceinline__ void update_quad(const adamw_args &a, int64_t q)
{
    if (q >= quads_of(a.count)) return;
    int64_t at = 4 * q;
    int count = quad_count(a.count, q);
    for (int i = 0; i < a.folds; i++) {
        const int64_t left = a.fold[i].w + (int64_t)TAPS * a.fold[i].cout * a.fold[i].cin - at;
        if (at < a.fold[i].w || left <= 0) continue;
        if (left >= count) return;
        at += left, count -= (int)left;
    }
    float w[4];
    update(a, adamw_prepare(&a), at, count, w);
}

/* Updates all taps of a tile of a folded filter, and folds them. */
static __device__ __forceinline__ void update_tile(const adamw_args &a, const adamw_fold &r, int index)
{
    SHARED(float, tile, TILE_FLOATS);
    const tile_place from = tile_here_small(index, r.cout, r.cin), to = tile_here_large(index, r.cout, r.cin);
    const adamw_factors f = adamw_prepare(&a);
    for (int tap = 0; tap < TAPS && from.inside; tap++) {
        float w[4] = {0.0f};
        update(a, f, r.w + (from.co * TAPS + tap) * r.cin + from.ci, 1, w);
        tile[tile_at(from, tap)] = w[0];
    }
    if (f.clip == 0.0f) return; /* uniform over the block */
    __syncthreads();
    if (to.inside) tile_fold(tile, to, a.folded, a.low_type, r.k, r.cout);
}

/* The blocks of folded filters come first, since they take longer. */
__global__ void adamw_kernel(adamw_args a)
{
    int block = blockIdx.x;
    for (int i = 0; i < a.folds; i++) {
        const int tiles = tiles_of(a.fold[i].cout, a.fold[i].cin);
        if (block < tiles) {
            update_tile(a, a.fold[i], block);
            return;
        }
        block -= tiles;
    }
    update_quad(a, (int64_t)block * THREADS + threadIdx.x);
}

ddpm_status k_adamw(void *stream, const adamw_args *a)
{
    int64_t blocks = (quads_of(a->count) + THREADS - 1) / THREADS;
    for (int i = 0; i < a->folds; i++) blocks += tiles_of(a->fold[i].cout, a->fold[i].cin);
    LAUNCH(adamw_kernel, dim3((unsigned)blocks), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
