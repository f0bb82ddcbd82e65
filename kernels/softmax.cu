#include "softmax.h"

/* LANES threads per row: a warp for short rows, otherwise the block.  A thread visits the same quads in every pass,
 * so that rows can be overwritten in place; the passes after the first find the row in the caches. */
enum { WARP = 32, THREADS = 256, SHORT_ROW = 1024 };

static __device__ __forceinline__ float pick(bool largest, float a, float b) { return largest ? a > b ? a : b : a + b; }

/* The maximum or the sum of `mine` over all lanes, with the same bits in each. */
template <int LANES> static __device__ __forceinline__ float all_lanes(bool largest, float mine)
{
    for (int half = WARP / 2; half > 0; half /= 2) mine = pick(largest, mine, __shfl_xor_sync(~0u, mine, half));
    if (LANES == WARP) return mine;
    SHARED(float, warps, THREADS / WARP);
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = mine;
    __syncthreads();
    float all = warps[0];
    for (int w = 1; w < THREADS / WARP; w++) all = pick(largest, all, warps[w]);
    __syncthreads(); /* before any thread writes the next values */
    return all;
}

static __device__ __forceinline__ float sum4(const float *v) { return v[0] + v[1] + (v[2] + v[3]); }

template <int LANES> static __device__ __forceinline__ float row_top(const float *x, int64_t s)
{
    float top = -HUGE_VALF, v[4];
    for (int64_t q = threadIdx.x % LANES; q < quads_of(s); q += LANES) {
        const int count = quad_count(s, q);
        quad_load(v, x + 4 * q, count);
        for (int k = 0; k < 4; k++) top = k < count && v[k] > top ? v[k] : top;
    }
    return all_lanes<LANES>(true, top);
}

template <int LANES> static __device__ __forceinline__ float row_sum(const float *x, int64_t s, float top)
{
    float sum[4] = {0.0f, 0.0f, 0.0f, 0.0f}, v[4];
    for (int64_t q = threadIdx.x % LANES; q < quads_of(s); q += LANES) {
        const int count = quad_count(s, q);
        quad_load(v, x + 4 * q, count);
        for (int k = 0; k < 4; k++) sum[k] += k < count ? exp_f32(v[k] - top) : 0.0f;
    }
    return all_lanes<LANES>(false, sum4(sum));
}

template <int LANES> __global__ void __launch_bounds__(THREADS) softmax_kernel(softmax_args a)
{
    const int64_t row = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    if (row >= a.rows) return; /* uniform over a warp */
    const float *x = a.scores + row * a.s;
    const float top = row_top<LANES>(x, a.s), sum = row_sum<LANES>(x, a.s, top), scale = 1.0f / sum;
    float v[4];
    for (int64_t q = threadIdx.x % LANES; q < quads_of(a.s); q += LANES) {
        const int count = quad_count(a.s, q);
        quad_load(v, x + 4 * q, count);
        for (int k = 0; k < 4; k++) v[k] = scale * exp_f32(v[k] - top);
        quad_store_as(a.p, a.type, row * a.s + 4 * q, v, count);
    }
    if (threadIdx.x % LANES != 0) return;
    const int64_t at = a.lse_stride ? row / a.s * a.lse_stride + row % a.s : row;
    a.lse[at] = sum >= 1.0f ? top + log_f32(sum) : sum; /* otherwise sum is NaN */
}

/* Computes p and loads dp of quad q of a row; 0 beyond the end. */
static __device__ __forceinline__ void load_pair(const softmax_bwd_args &a, int64_t row, int64_t q, float (*v)[4])
{
    const int count = quad_count(a.s, q);
    const int64_t at = row * a.s + 4 * q;
    const float lse = a.lse[row];
    quad_load(v[0], a.scores + at, count);
    quad_load(v[1], a.dp + at, count);
    for (int k = 0; k < 4; k++) v[0][k] = k < count ? exp_f32(v[0][k] - lse) : 0.0f;
}

template <int LANES> __global__ void __launch_bounds__(THREADS) softmax_bwd_kernel(softmax_bwd_args a)
{
    const int64_t row = (int64_t)blockIdx.x * (THREADS / LANES) + threadIdx.x / LANES;
    if (row >= a.rows) return; /* uniform over a warp */
    float v[2][4], part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    for (int64_t q = threadIdx.x % LANES; q < quads_of(a.s); q += LANES) {
        load_pair(a, row, q, v);
        for (int k = 0; k < 4; k++) part[k] += v[0][k] * v[1][k];
    }
    const float dot = all_lanes<LANES>(false, sum4(part));
    for (int64_t q = threadIdx.x % LANES; q < quads_of(a.s); q += LANES) {
        const int count = quad_count(a.s, q);
        const int64_t at = row * a.s + 4 * q;
        load_pair(a, row, q, v);
        for (int k = 0; k < 4; k++) v[1][k] = v[0][k] * (v[1][k] - dot);
        if (a.p) quad_store_as(a.p, a.type, at, v[0], count);
        quad_store_as(a.ds, a.type, at, v[1], count);
    }
}

static dim3 rows_by_warps(int64_t rows) { return dim3((unsigned)((rows + THREADS / WARP - 1) / (THREADS / WARP))); }

ddpm_status k_softmax(void *stream, const softmax_args *a)
{
    if (a->s <= SHORT_ROW)
        LAUNCH(softmax_kernel<WARP>, rows_by_warps(a->rows), THREADS, 0, (cudaStream_t)stream, *a);
    else
        LAUNCH(softmax_kernel<THREADS>, dim3((unsigned)a->rows), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}

ddpm_status k_softmax_bwd(void *stream, const softmax_bwd_args *a)
{
    if (a->s <= SHORT_ROW)
        LAUNCH(softmax_bwd_kernel<WARP>, rows_by_warps(a->rows), THREADS, 0, (cudaStream_t)stream, *a);
    else
        LAUNCH(softmax_bwd_kernel<THREADS>, dim3((unsigned)a->rows), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
