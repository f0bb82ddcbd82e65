#include "sampler_init.h"

enum { THREADS = 256 };

__global__ void __launch_bounds__(THREADS)
    sampler_init_kernel(sampler_init_args a, int blocks) /* one thread per quad */
{
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (q >= quads_of(a.d)) return;
    normal4 xi = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (a.noise > 0.0f) xi = noise_normal4(a.state->seed, NOISE_SAMPLE_INIT, (uint32_t)a.ids[b], 0, (uint32_t)q);
    sampler_init_quad(&a, b, q, xi.v);
}

ddpm_status k_sampler_init(void *stream, const sampler_init_args *a)
{
    const int blocks = (int)((quads_of(a->d) + THREADS - 1) / THREADS);
    LAUNCH(sampler_init_kernel, dim3(blocks * a->n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
