#include "dropout.h"

enum { THREADS = 256 }; /* one thread per octet; `blocks` blocks per image */

__global__ void __launch_bounds__(THREADS) dropout_kernel(dropout_args a, int blocks)
{
    const int b = blockIdx.x / blocks, o = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (o < octets_of(a.d)) dropout_octet(&a, b, o);
}

ddpm_status k_dropout(void *stream, const dropout_args *a)
{
    const int blocks = (int)((octets_of(a->d) + THREADS - 1) / THREADS);
    LAUNCH(dropout_kernel, dim3(blocks * a->n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
