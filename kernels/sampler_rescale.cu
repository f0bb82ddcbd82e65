#include "sampler_rescale.h"
#include "reduce.cuh"

__global__ void __launch_bounds__(REDUCE_LANES, 1)
    sampler_rescale_kernel(sampler_rescale_args a) /* a block per image */
{
    const sampler_row r = a.rows[a.state->row];
    double sum[RESCALE_SUMS] = {0.0};
    for (int q = threadIdx.x; q < quads_of(a.model.d); q += REDUCE_LANES)
        sampler_rescale_quad(&a, &r, blockIdx.x, q, a.model.type, sum);
    for (int i = 0; i < RESCALE_SUMS; i++) sum[i] = block_sum(sum[i]);
    if (threadIdx.x == 0) a.factor[blockIdx.x] = sampler_rescale_factor(&a, sum);
}

ddpm_status k_sampler_rescale(void *stream, const sampler_rescale_args *a)
{
    LAUNCH(sampler_rescale_kernel, dim3(a->model.n), REDUCE_LANES, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
