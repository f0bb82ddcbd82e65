#include "class_embed.h"

enum { THREADS = 128, COLUMNS = 32 }; /* one thread per quad, `blocks` blocks per image; backward one per column */

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

__global__ void __launch_bounds__(COLUMNS) class_embed_bwd_kernel(class_embed_bwd_args a)
{
    const int column = blockIdx.x * COLUMNS + threadIdx.x;
    if (column >= a.width) return;
    class_embed_clear(&a, column);
    for (int b = 0; b < a.n; b++) class_embed_bwd_one(&a, b, column);
}

ddpm_status k_class_embed_bwd(void *stream, const class_embed_bwd_args *a)
{
    LAUNCH(class_embed_bwd_kernel, dim3((a->width + COLUMNS - 1) / COLUMNS), COLUMNS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
