#include "grad_norm.h"
#include "reduce.cuh"

/* Not all of grad_norm_args: of kernels with large arguments nvcc 13.0 makes longer code. */
typedef struct grad_norm_part {
    const float *g;
    double *partial;
    int64_t count;
} grad_norm_part;

__global__ void __launch_bounds__(REDUCE_LANES)
    grad_norm_partial_kernel(grad_norm_part a) /* a block per chunk, a thread per lane */
{
    double sum = 0.0;
    for (int turn = 0; turn < REDUCE_TURNS; turn++) {
        const int64_t q = (int64_t)blockIdx.x * REDUCE_QUADS + turn * REDUCE_LANES + threadIdx.x;
        if (q < quads_of(a.count)) sum += grad_norm_quad(a.g, a.count, q);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) a.partial[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(REDUCE_LANES)
    grad_norm_finish_kernel(grad_norm_args a, int64_t chunks) /* one block */
{
    double sum = 0.0;
    for (int64_t i = threadIdx.x; i < chunks; i += REDUCE_LANES) sum += a.partial[i];
    sum = block_sum(sum);
    if (threadIdx.x == 0) grad_norm_close(&a, sum);
}

ddpm_status k_grad_norm(void *stream, const grad_norm_args *a)
{
    const int64_t chunks = reduce_chunks(a->count);
    const grad_norm_part part = {a->g, a->partial, a->count};
    LAUNCH(grad_norm_partial_kernel, dim3((unsigned)chunks), REDUCE_LANES, 0, (cudaStream_t)stream, part);
    LAUNCH(grad_norm_finish_kernel, 1, REDUCE_LANES, 0, (cudaStream_t)stream, *a, chunks);
    return launch_status();
}
