#include "sampler_next.h"

enum { THREADS = 256 };

/* a single block, so that no thread reads a half-updated state */
__global__ void __launch_bounds__(THREADS) sampler_next_kernel(sampler_next_args a)
{
    const int row = a.state->row + 1;
    for (int b = threadIdx.x; b < a.n; b += THREADS) a.t[b] = a.rows[row].t;
    __syncthreads(); /* all threads have read the row */
    if (threadIdx.x == 0) a.state->row = row;
}

ddpm_status k_sampler_next(void *stream, const sampler_next_args *a)
{
    LAUNCH(sampler_next_kernel, 1, THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}

__global__ void __launch_bounds__(THREADS)
    sampler_init_kernel(sampler_init_args a, int blocks) /* one thread per quad */
{
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (q >= quads_of(a.d)) return;
    const normal4 xi = noise_normal4(a.state->seed, NOISE_SAMPLE_INIT, (uint32_t)a.ids[b], 0, (uint32_t)q);
    sampler_init_quad(&a, b, q, xi.v);
}

ddpm_status k_sampler_init(void *stream, const sampler_init_args *a)
{
    const int blocks = (int)((quads_of(a->d) + THREADS - 1) / THREADS);
    LAUNCH(sampler_init_kernel, dim3(blocks * a->n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
