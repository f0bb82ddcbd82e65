#include "reduce.cuh"
#include "tally.h"

__global__ void __launch_bounds__(REDUCE_LANES) tally_kernel(tally_args a)
{
    double sum = 0.0;
    for (int i = threadIdx.x; i < a.n; i += REDUCE_LANES) sum += (double)a.loss[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) tally_finish(&a, sum);
}

ddpm_status k_tally(void *stream, const tally_args *a)
{
    LAUNCH(tally_kernel, 1, REDUCE_LANES, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
