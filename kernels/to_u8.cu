#include "to_u8.h"

enum { THREADS = 256 }; /* one thread per quad */

__global__ void __launch_bounds__(THREADS) to_u8_kernel(to_u8_args a)
{
    const int64_t q = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    float x[4];
    uint8_t y[4];
    if (q >= quads_of(a.count)) return;
    const int count = quad_count(a.count, q);
    quad_load(x, a.x + 4 * q, count);
    for (int k = 0; k < 4; k++) y[k] = to_u8(x[k]);
    quad_store_bytes(a.y + 4 * q, y, count);
}

ddpm_status k_to_u8(void *stream, const to_u8_args *a)
{
    const int64_t blocks = (quads_of(a->count) + THREADS - 1) / THREADS;
    LAUNCH(to_u8_kernel, dim3((unsigned)blocks), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
