#include "reduce.cuh"
#include "tally.h"

__global__ void __launch_bounds__(REDUCE_LANES) tally_kernel(tally_args a)
{
    SHARED(double, error, REDUCE_LANES);
    SHARED(double, images, REDUCE_LANES);
    double sum = 0.0;
    for (int i = threadIdx.x; i < a.n; i += REDUCE_LANES) sum += tally_loss(&a, i);
    for (int i = threadIdx.x; i < a.n && a.seen; i += REDUCE_LANES) tally_keep(&a, i);
    tally_lane(&a, threadIdx.x, &error[threadIdx.x], &images[threadIdx.x]);
    sum = block_sum(sum);
    __syncthreads();
    if (threadIdx.x == 0) tally_finish(&a, sum);
    if (threadIdx.x < TRAIN_LEVELS) tally_level(&a, threadIdx.x, error, images);
    if (!a.vb) return;
    double vb, count;
    tally_vb_lane(&a, threadIdx.x, &vb, &count);
    vb = block_sum(vb);
    count = block_sum(count);
    if (threadIdx.x == 0) tally_vb_finish(&a, vb, count);
}

ddpm_status k_tally(void *stream, const tally_args *a)
{
    LAUNCH(tally_kernel, 1, REDUCE_LANES, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
