#include "class_embed.h"

enum { THREADS = 128 }; /* one thread per quad; `blocks` blocks per image */

__global__ void __launch_bounds__(THREADS) class_embed_kernel(class_embed_args a, int blocks)
{
    const int b = blockIdx.x / blocks, q = blockIdx.x % blocks * THREADS + threadIdx.x;
    if (q < quads_of(a.width)) class_embed_quad(&a, b, q, a.type);
}

ddpm_status k_class_embed(void *stream, const class_embed_args *a)
{
    const int blocks = (int)((quads_of(a->width) + THREADS - 1) / THREADS);
    LAUNCH(class_embed_kernel, dim3(blocks * a->n), THREADS, 0, (cudaStream_t)stream, *a, blocks);
    return launch_status();
}
