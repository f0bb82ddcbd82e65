#include "sampler_step.h"

enum { THREADS = 256 }; /* one thread per quad; `blocks` blocks per image */

__global__ void __launch_bounds__(THREADS) sampler_step_kernel(sampler_step_args a, int blocks)
{
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (q >= quads_of(a.d)) return;
    const sampler_row r = a.rows[a.state->row];
    normal4 xi = {{0.0f, 0.0f, 0.0f, 0.0f}};
    if (r.s != 0.0f)
        xi = noise_normal4(a.state->seed, NOISE_SAMPLE_STEP, (uint32_t)a.ids[b], (uint32_t)a.state->row, (uint32_t)q);
    sampler_step_quad(&a, &r, b, q, xi.v, a.model_type);
}

ddpm_status k_sampler_step(void *stream, const sampler_step_args *a)
{
    const int blocks = (int)((quads_of(a->d) + THREADS - 1) / THREADS);
    LAUNCH(sampler_step_kernel, dim3(blocks * a->n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
