#include "time_embed.h"

enum { THREADS = 256 }; /* one thread per pair */

__global__ void __launch_bounds__(THREADS) time_embed_kernel(time_embed_args a)
{
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int half = a.dim / 2;
    if (at < (int64_t)a.n * half) time_embed_pair(&a, (int)(at / half), (int)(at % half));
}

ddpm_status k_time_embed(void *stream, const time_embed_args *a)
{
    const int64_t pairs = (int64_t)a->n * (a->dim / 2);
    LAUNCH(time_embed_kernel, dim3((unsigned)((pairs + THREADS - 1) / THREADS)), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
