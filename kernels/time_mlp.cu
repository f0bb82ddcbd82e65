#include "quad_run.cuh"
#include "time_mlp.h"

/* LANES threads per column of a product, each with LOADS quads of weights in flight at a time. */
enum { LANES = 8, LOADS = 4, THREADS = TIME_MLP_COLUMNS * LANES };
static_assert(4 * LANES * LOADS == TIME_MLP_RUN && (int)LANES >= TIME_MLP_ROWS, "lane r of a column ends row r");

/* Computes columns [from, to) of silu(x w^T + bias) for the rows of a block. */
typedef struct dense {
    const float *x; /* shared [ROWS, padded k] */
    const void *w;
    const float *bias;
    int k, from, to;
    float *next;  /* shared [ROWS, padded width]: the result as the next layer's input, or NULL */
    float *pre;   /* NULL: not needed */
    void *result; /* NULL: not needed */
} dense;

/* Adds `sum` over the lanes in a fixed order; lane r returns the total of row r. */
template <int ROWS> static __device__ __forceinline__ float own_row(const float *sum)
{
    float mine = 0.0f;
    for (int r = 0; r < ROWS; r++) {
        float all = sum[r];
        for (int bit = LANES / 2; bit > 0; bit /= 2) all += __shfl_xor_sync(~0u, all, bit);
        mine = (int)threadIdx.x % LANES == r ? all : mine;
    }
    return mine;
}

/* x w^T of one column, for the row of this lane. */
template <int ROWS> static __device__ __forceinline__ float product(const dense &d, storage type, int column)
{
    const int lane = threadIdx.x % LANES, full = d.k / 4, ld = time_mlp_padded(d.k);
    const int64_t row = (int64_t)column * d.k;
    float sum[ROWS] = {0.0f};
    for (int q = lane; q < full; q += LANES * LOADS) {
        const int left = (full - q + LANES - 1) / LANES;
        const quad_run run = {row + 4 * q, 4 * LANES, left < LOADS ? left : LOADS, 4};
        float w[LOADS][4]; /* 0 beyond the end, where x is padding or other finite data */
        run_load<LOADS>(w, d.w, type, run);
        for (int j = 0; j < LOADS; j++)
            for (int r = 0; r < ROWS; r++) {
                const float_quad x = *(const float_quad *)(d.x + r * ld + 4 * (q + j * LANES));
                for (int i = 0; i < 4; i++) sum[r] = fmaf(w[j][i], x.v[i], sum[r]);
            }
    }
    const int rest = 4 * full + lane; /* the last k % 4 weights */
    if (rest < d.k) {
        const float w = load_at(d.w, type, row + rest);
        for (int r = 0; r < ROWS; r++) sum[r] = fmaf(w, d.x[r * ld + rest], sum[r]);
    }
    return own_row<ROWS>(sum);
}

template <int ROWS> static __device__ __forceinline__ void run_dense(const dense &d, const time_mlp_args &a, int first)
{
    const int r = threadIdx.x % LANES, ld = time_mlp_padded(a.width);
    for (int base = d.from; base < d.to; base += TIME_MLP_COLUMNS) {
        const int column = base + (int)threadIdx.x / LANES, last = d.to - 1;
        /* all lanes of a warp take part in the shuffles */
        const float sum = product<ROWS>(d, a.type, column < last ? column : last);
        if (column > last || r >= ROWS) continue;
        const float z = sum + d.bias[column], y = as_stored(silu(z), a.type);
        const int64_t at = (int64_t)(first + r) * a.width + column;
        if (d.next) d.next[r * ld + column] = y;
        if (d.pre && first + r < a.n) d.pre[at] = z;
        if (d.result && first + r < a.n) store_at(d.result, a.type, at, y);
    }
}

/* Computes h0 in shared memory, and zeroes the padding of h1. */
template <int ROWS>
static __device__ __forceinline__ void embed(const time_mlp_args &a, int first, bool store, float *h0, float *h1)
{
    const int ld0 = time_mlp_padded(a.dim), ld1 = time_mlp_padded(a.width), pad = ld1 - a.width;
    for (int i = threadIdx.x; i < ROWS * ld0; i += THREADS) {
        const int column = i % ld0, b = first + i / ld0;
        const bool there = b < a.n && column < a.dim;
        const float v = there ? time_embed_column(a.t[b], a.freq, a.dim, a.flip_sin_to_cos, column) : 0.0f;
        h0[i] = as_stored(v, a.type);
        if (there && store) store_at(a.h0, a.type, (int64_t)b * a.dim + column, v);
    }
    for (int i = threadIdx.x; i < ROWS * pad; i += THREADS) h1[i / pad * ld1 + a.width + i % pad] = 0.0f;
}

/* blockIdx.x selects the rows, blockIdx.y the columns of y.  Blocks with blockIdx.y = 0 also store h0, pre1 and h1. */
template <int ROWS> __global__ void __launch_bounds__(THREADS, 1) time_mlp_kernel(time_mlp_args a, int share)
{
    SHARED_DYNAMIC(float, memory);
    float *h0 = memory, *h1 = memory + ROWS * time_mlp_padded(a.dim);
    const int first = blockIdx.x * ROWS, from = blockIdx.y * share;
    const bool store = a.h0 && blockIdx.y == 0;
    embed<ROWS>(a, first, store, h0, h1);
    __syncthreads();
    const dense one = {h0, a.w1, a.b1, a.dim, 0, a.width, h1, store ? a.pre1 : nullptr, store ? a.h1 : nullptr};
    run_dense<ROWS>(one, a, first);
    __syncthreads();
    const int to = from + share < a.width ? from + share : a.width;
    const dense two = {h1, a.w2, a.b2, a.width, from, to, nullptr, a.pre2, a.y};
    run_dense<ROWS>(two, a, first);
}

template <int ROWS> static void launch(void *stream, const time_mlp_args *a, const time_mlp_cut &cut)
{
    const dim3 grid((unsigned)((a->n + ROWS - 1) / ROWS), (unsigned)cut.parts);
    LAUNCH(time_mlp_kernel<ROWS>, grid, THREADS, cut.shared, (cudaStream_t)stream, *a, cut.share);
}

ddpm_status k_time_mlp(void *stream, const time_mlp_args *a)
{
    const time_mlp_cut cut = time_mlp_cut_of(a->n, a->dim, a->width);
    switch (cut.rows) {
    case 1: launch<1>(stream, a, cut); break;
    case 2: launch<2>(stream, a, cut); break;
    case 4: launch<4>(stream, a, cut); break;
    default: launch<8>(stream, a, cut); break;
    }
    return launch_status();
}
