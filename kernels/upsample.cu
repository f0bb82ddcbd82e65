#include "quad_run.cuh"
#include "upsample.h"

enum { THREADS = 256 }; /* one thread per quad of a small pixel; `blocks` blocks per row of small pixels */

/* A quad of a small pixel, and the two quads in each of the two large rows that belong to it. */
typedef struct enlarged_quad {
    bool inside;
    int64_t small;
    int count;
    quad_run above, below;
} enlarged_quad;

/* Rows are numbered across all images: small row r corresponds to large rows 2r and 2r + 1. */
static __device__ __forceinline__ enlarged_quad enlarged_here(const upsample_args &a, int blocks)
{
    const int quads = (int)quads_of(a.c);
    const int64_t row = blockIdx.x / blocks, at = (int64_t)(blockIdx.x % blocks) * THREADS + threadIdx.x;
    const int column = (int)at / quads, quad = (int)at % quads, count = quad_count(a.c, quad);
    const int64_t pixel = row * a.w + column, above = 4 * row * a.w + 2 * column, below = above + 2 * (int64_t)a.w;
    const quad_run upper = {above * a.c + 4 * (int64_t)quad, a.c, 2, count},
                   lower = {below * a.c + 4 * (int64_t)quad, a.c, 2, count};
    const enlarged_quad e = {at < (int64_t)a.w * quads, pixel * a.c + 4 * (int64_t)quad, count, upper, lower};
    return e;
}

static __device__ __forceinline__ void give_both(const upsample_args &a, const quad_run &large, const float *x)
{
    float y[2][4] = {};
    if (a.accumulate) run_load<2>(y, a.y, a.type, large);
    for (int right = 0; right < 2; right++)
        for (int k = 0; k < 4; k++) y[right][k] += x[k];
    run_store<2>(a.y, a.type, large, y);
}

__global__ void __launch_bounds__(THREADS) upsample_kernel(upsample_args a, int blocks)
{
    const enlarged_quad e = enlarged_here(a, blocks);
    float x[4];
    if (!e.inside) return;
    quad_load_as(x, a.x, a.type, e.small, e.count);
    give_both(a, e.above, x);
    give_both(a, e.below, x);
}

__global__ void __launch_bounds__(THREADS) upsample_bwd_kernel(upsample_args a, int blocks)
{
    const enlarged_quad e = enlarged_here(a, blocks);
    float above[2][4], below[2][4], y[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (!e.inside) return;
    run_load<2>(above, a.x, a.type, e.above);
    run_load<2>(below, a.x, a.type, e.below);
    if (a.accumulate) quad_load_as(y, a.y, a.type, e.small, e.count);
    for (int k = 0; k < 4; k++) y[k] += above[0][k] + above[1][k] + (below[0][k] + below[1][k]);
    quad_store_as(a.y, a.type, e.small, y, e.count);
}

static int blocks_of(const upsample_args *a) { return (int)((a->w * quads_of(a->c) + THREADS - 1) / THREADS); }

ddpm_status k_upsample(void *stream, const upsample_args *a)
{
    const int blocks = blocks_of(a);
    LAUNCH(upsample_kernel, dim3((unsigned)a->n * a->h * blocks), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}

ddpm_status k_upsample_bwd(void *stream, const upsample_args *a)
{
    const int blocks = blocks_of(a);
    LAUNCH(upsample_bwd_kernel, dim3((unsigned)a->n * a->h * blocks), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
