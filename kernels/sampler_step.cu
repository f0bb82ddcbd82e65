#include "sampler_step.h"

enum { THREADS = 256 }; /* one thread per quad; `blocks` blocks per image */

static __device__ __forceinline__ normal4 draw(const sampler_step_args &a, uint32_t stream, int b, int q)
{
    return noise_normal4(a.state->seed, stream, (uint32_t)a.ids[b], (uint32_t)a.state->row, (uint32_t)q);
}

__global__ void __launch_bounds__(THREADS) sampler_step_kernel(sampler_step_args a, int blocks)
{
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (q >= quads_of(a.model.d)) return;
    const sampler_row r = a.rows[a.state->row];
    normal4 xi = {{0.0f, 0.0f, 0.0f, 0.0f}}, paste = xi;
    if (r.s != 0.0f) xi = draw(a, NOISE_SAMPLE_STEP, b, q);
    if (a.mask && r.noise > 0.0f) paste = draw(a, NOISE_SAMPLE_PASTE, b, q);
    sampler_step_quad(&a, &r, b, q, xi.v, paste.v, a.model.type);
}

ddpm_status k_sampler_step(void *stream, const sampler_step_args *a)
{
    const int blocks = (int)((quads_of(a->model.d) + THREADS - 1) / THREADS);
    LAUNCH(sampler_step_kernel, dim3(blocks * a->model.n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
