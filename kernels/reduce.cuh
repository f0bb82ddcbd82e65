/* reduce.cuh - reduce_lanes() for a block of REDUCE_LANES threads, to the same bits. */
#ifndef DDPM_REDUCE_CUH
#define DDPM_REDUCE_CUH
#include "reduce.h"

/* The sum of `mine` over all threads, valid in thread 0.  All threads of the block must call it. */
static __device__ __forceinline__ double block_sum(double mine)
{
    enum { WARP = 32, WARPS = REDUCE_LANES / WARP };
    SHARED(double, lane, REDUCE_LANES);
    lane[threadIdx.x] = mine;
    __syncthreads();
    double sum = 0.0;
    if (threadIdx.x < WARP) { /* the upper levels of the tree within a thread, the lower ones within the warp */
        double v[WARPS];
        for (int w = 0; w < WARPS; w++) v[w] = lane[w * WARP + threadIdx.x];
        for (int half = WARPS / 2; half > 0; half /= 2)
            for (int w = 0; w < half; w++) v[w] += v[w + half];
        sum = v[0];
        for (int half = WARP / 2; half > 0; half /= 2) sum += __shfl_down_sync(~0u, sum, half);
    }
    __syncthreads(); /* before any thread writes the lanes again */
    return sum;
}

#endif
