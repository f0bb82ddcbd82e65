#include "sampler_next.h"

enum { THREADS = 256 };

/* a single block, so that no thread reads a half-updated state */
__global__ void __launch_bounds__(THREADS) sampler_next_kernel(sampler_next_args a)
{
    const int row = a.state->row + 1;
    for (int b = threadIdx.x; b < a.n; b += THREADS) a.t[b] = a.rows[row].t;
    __syncthreads(); /* all threads have read the row */
    if (threadIdx.x == 0) a.state->row = row;
}

ddpm_status k_sampler_next(void *stream, const sampler_next_args *a)
{
    LAUNCH(sampler_next_kernel, 1, THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
