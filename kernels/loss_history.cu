#include "loss_history.h"

__global__ void __launch_bounds__(REDUCE_LANES) importance_kernel(importance_args a)
{
    SHARED(double, before, REDUCE_LANES);
    SHARED(double, total, 1);
    before[threadIdx.x] = importance_lane(&a, threadIdx.x);
    __syncthreads();
    if (threadIdx.x == 0) total[0] = importance_scan(before);
    __syncthreads();
    importance_fill(&a, threadIdx.x, before[threadIdx.x], total[0]);
}

ddpm_status k_importance(void *stream, const importance_args *a)
{
    LAUNCH(importance_kernel, 1, REDUCE_LANES, 0, (cudaStream_t)stream, *a);
    return launch_status();
}

__global__ void __launch_bounds__(REDUCE_LANES) remember_kernel(remember_args a)
{
    remember_lane(&a, threadIdx.x, REDUCE_LANES);
}

ddpm_status k_remember(void *stream, const remember_args *a)
{
    LAUNCH(remember_kernel, 1, REDUCE_LANES, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
