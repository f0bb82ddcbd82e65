#include "q_sample.h"

enum { THREADS = 256 }; /* one thread per quad; `blocks` blocks per image */

__global__ void __launch_bounds__(THREADS) q_sample_kernel(q_sample_args a, int blocks)
{
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    const drawn_image m = q_sample_image(&a, b);
    if (q >= quads_of(m.d)) return;
    const normal4 eps = eps_quad(&m, q);
    q_sample_quad(&a, &m, b, q, eps.v, a.xt_type);
}

ddpm_status k_q_sample(void *stream, const q_sample_args *a)
{
    const int blocks = (int)((quads_of((int64_t)a->h * a->w * a->c) + THREADS - 1) / THREADS);
    LAUNCH(q_sample_kernel, dim3(blocks * a->n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
