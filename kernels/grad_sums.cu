#include "grad_sums.h"
#include "quad_run.cuh"

enum { THREADS = 256, SLICES = THREADS / GRAD_SUMS_COLUMNS, TURNS = GRAD_SUMS_ELEMENTS / (4 * THREADS) };

typedef struct sum_table {
    grad_sum sum[GRAD_SUMS_LAUNCH];
    int first[GRAD_SUMS_LAUNCH + 1]; /* first block of each sum; the last: number of blocks */
    int n;
} sum_table;
static_assert(sizeof(sum_table) <= 4096, "a kernel's parameters");

static int blocks_of(const grad_sum &s)
{
    const int per_block = s.rows == 1 ? GRAD_SUMS_ELEMENTS : GRAD_SUMS_COLUMNS;
    return (s.count + per_block - 1) / per_block;
}

/* The sum that a block works on. */
static __device__ __forceinline__ int sum_of_block(const sum_table &t, int block)
{
    int low = 0, high = t.n;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        if (t.first[middle] <= block)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* One row: a conversion. */
static __device__ __forceinline__ void convert(const grad_sum &s, int block)
{
    const int first = block * GRAD_SUMS_ELEMENTS + 4 * (int)threadIdx.x, left = s.count - first, stride = 4 * THREADS;
    float x[TURNS][4], y[TURNS][4] = {};
    const int full = left < 4 ? 0 : (left - 4) / stride + 1; /* whole quads of this thread */
    const quad_run quads = {first, stride, full < TURNS ? full : TURNS, 4};
    run_load<TURNS>(x, s.from, s.type, quads);
    if (s.add) run_load<TURNS>(y, s.to, STORE_F32, quads);
    for (int turn = 0; turn < TURNS; turn++)
        for (int k = 0; k < 4; k++) y[turn][k] = s.add ? y[turn][k] + x[turn][k] : x[turn][k];
    run_store<TURNS>(s.to, STORE_F32, quads, y);
    const int rest = s.count / 4 * 4 + (int)threadIdx.x; /* fewer than four elements remain */
    if (rest / GRAD_SUMS_ELEMENTS != block || rest >= s.count) return;
    s.to[rest] = (s.add ? s.to[rest] : 0.0f) + load_at(s.from, s.type, rest);
}

/* Several rows: one column per thread, SLICES threads per column. */
static __device__ __forceinline__ void add_rows(const grad_sum &s, int block)
{
    SHARED(double, part, THREADS);
    const int tid = (int)threadIdx.x, column = block * GRAD_SUMS_COLUMNS + tid % GRAD_SUMS_COLUMNS;
    double sum = 0.0;
    if (column < s.count) {
        UNROLL(4)
        for (int row = tid / GRAD_SUMS_COLUMNS; row < s.rows; row += SLICES)
            sum += load_at(s.from, s.type, (int64_t)row * s.ld + column);
    }
    part[tid] = sum;
    __syncthreads();
    if (tid >= GRAD_SUMS_COLUMNS || column >= s.count) return;
    for (int slice = 1; slice < SLICES; slice++) sum += part[slice * GRAD_SUMS_COLUMNS + tid];
    s.to[column] = (s.add ? s.to[column] : 0.0f) + (float)sum;
}

__global__ void __launch_bounds__(THREADS) grad_sums_kernel(sum_table t)
{
    const int k = sum_of_block(t, (int)blockIdx.x), block = (int)blockIdx.x - t.first[k];
    const grad_sum s = t.sum[k];
    if (s.rows == 1)
        convert(s, block);
    else
        add_rows(s, block);
}

ddpm_status k_grad_sums(void *stream, const grad_sum *sums, int n)
{
    for (int from = 0; from < n; from += GRAD_SUMS_LAUNCH) {
        sum_table t = {};
        t.n = n - from < GRAD_SUMS_LAUNCH ? n - from : GRAD_SUMS_LAUNCH;
        for (int i = 0; i < t.n; i++) {
            t.sum[i] = sums[from + i];
            t.first[i + 1] = t.first[i] + blocks_of(t.sum[i]);
        }
        LAUNCH(grad_sums_kernel, dim3((unsigned)t.first[t.n]), THREADS, 0, (cudaStream_t)stream, t);
    }
    return launch_status();
}
