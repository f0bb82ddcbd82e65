#include "draw.h"

enum { THREADS = 128 }; /* one thread per image */

__global__ void __launch_bounds__(THREADS) draw_kernel(draw_args a)
{
    const int b = blockIdx.x * THREADS + threadIdx.x;
    if (b < a.n) draw_one(&a, b);
}

ddpm_status k_draw(void *stream, const draw_args *a)
{
    LAUNCH(draw_kernel, dim3((a->n + THREADS - 1) / THREADS), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
