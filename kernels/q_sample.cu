#include "q_sample.h"

enum { THREADS = 256 }; /* one thread per quad; `blocks` blocks per image */

/* PLAIN: without offset and perturbation, whose code would double the loop. */
template <bool PLAIN> __global__ void __launch_bounds__(THREADS) q_sample_kernel(q_sample_args a, int blocks)
{
    if (PLAIN) a.noise_offset = a.input_perturbation = 0.0f;
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    const drawn_image m = q_sample_image(&a, b);
    if (q >= quads_of(m.d)) return;
    const normal4 eps = eps_quad(&m, q);
    q_sample_quad(&a, &m, b, q, eps.v, a.xt_type);
}

ddpm_status k_q_sample(void *stream, const q_sample_args *a)
{
    const int blocks = (int)((quads_of((int64_t)a->h * a->w * a->c) + THREADS - 1) / THREADS);
    const dim3 grid(blocks * a->n);
    if (a->noise_offset == 0.0f && a->input_perturbation == 0.0f)
        LAUNCH(q_sample_kernel<true>, grid, THREADS, 0, (cudaStream_t)stream, *a, blocks);
    else
        LAUNCH(q_sample_kernel<false>, grid, THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
