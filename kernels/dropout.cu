#include "dropout.h"

enum { THREADS = 256 }; /* one thread a quad; `blocks` blocks an image */

__global__ void dropout_kernel(dropout_args a, int blocks)
{
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (q < quads_of(a.d)) dropout_quad(&a, b, q);
}

ddpm_status k_dropout(void *stream, const dropout_args *a)
{
    const int blocks = (int)((quads_of(a->d) + THREADS - 1) / THREADS);
    LAUNCH(dropout_kernel, dim3(blocks * a->n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
