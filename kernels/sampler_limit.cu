#include "sampler_limit.h"

enum { THREADS = LIMIT_BINS }; /* one block per image, one thread per bin */

/* Of the bins' counts, the one that holds order statistic *k, which becomes its place within the bin. */
static __device__ __forceinline__ uint32_t find_bin(const int *count, int *k, int *found)
{
    int before = 0;
    for (unsigned bin = 0; bin < threadIdx.x; bin++) before += count[bin];
    const int mine = count[threadIdx.x];
    if (*k >= before && *k < before + mine) { /* true in one thread */
        found[0] = (int)threadIdx.x;
        found[1] = *k - before;
        found[2] = mine;
    }
    __syncthreads();
    *k = found[1];
    return (uint32_t)found[0];
}

static __device__ __forceinline__ void count_digits(const sampler_limit_args &a, const sampler_row &r, uint32_t prefix,
                                                    int pass, int *count)
{
    uint32_t key[4], bin;
    count[threadIdx.x] = 0;
    __syncthreads();
    for (int q = threadIdx.x; q < quads_of(a.model.d); q += THREADS) {
        const int n = limit_keys(&a, &r, blockIdx.x, q, a.model.type, key);
        for (int i = 0; i < 4; i++)
            if (i < n && limit_digit(key[i], prefix, pass, &bin)) atomicAdd(count + bin, 1);
    }
    __syncthreads();
}

/* The least key above `prefix`; all ones: there is none. */
static __device__ __forceinline__ uint32_t least_above(const sampler_limit_args &a, const sampler_row &r,
                                                       uint32_t prefix, uint32_t *least)
{
    uint32_t key[4];
    if (threadIdx.x == 0) *least = 0xffffffffu;
    __syncthreads();
    for (int q = threadIdx.x; q < quads_of(a.model.d); q += THREADS) {
        const int n = limit_keys(&a, &r, blockIdx.x, q, a.model.type, key);
        for (int i = 0; i < 4; i++)
            if (i < n && key[i] > prefix) atomicMin(least, key[i]);
    }
    __syncthreads();
    return *least;
}

__global__ void __launch_bounds__(THREADS) sampler_limit_kernel(sampler_limit_args a)
{
    SHARED(int, count, LIMIT_BINS);
    SHARED(int, found, 3);
    SHARED(uint32_t, least, 1);
    const sampler_row r = a.rows[a.state->row];
    uint32_t prefix = 0;
    int k = a.k;
    for (int pass = 0; pass < LIMIT_PASSES; pass++) {
        count_digits(a, r, prefix, pass, count);
        prefix = prefix << 8 | find_bin(count, &k, found);
    }
    uint32_t next = prefix;
    if (k + 1 >= found[2] && a.fraction > 0.0f) next = least_above(a, r, prefix, least); /* the same in all threads */
    if (threadIdx.x == 0) a.limit[blockIdx.x] = limit_of(&a, &r, limit_value(prefix), limit_value(next));
}

ddpm_status k_sampler_limit(void *stream, const sampler_limit_args *a)
{
    LAUNCH(sampler_limit_kernel, dim3(a->model.n), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
