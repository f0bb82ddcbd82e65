#include "bound.h"
#include "reduce.cuh"

enum { THREADS = 128 }; /* of the finish, one per image */

/* Block (b, chunk): one thread per lane of reduce.h.  Two blocks a multiprocessor: for three the registers do not suffice. */
__global__ void __launch_bounds__(REDUCE_LANES, 2) bound_partial_kernel(bound_args a, int chunks)
{
    const int b = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    const drawn_image m = bound_image(&a, b);
    bound_sums sums = {0.0, 0.0};
    for (int turn = 0; turn < REDUCE_TURNS; turn++) {
        const int64_t q = (int64_t)chunk * REDUCE_QUADS + turn * REDUCE_LANES + threadIdx.x;
        if (q >= quads_of(m.d)) break;
        const normal4 eps = eps_quad(&m, (int)q);
        const bound_sums one = bound_quad(&a, &m, b, (int)q, eps.v);
        sums.nats += one.nats, sums.x0 += one.x0;
    }
    sums.nats = block_sum(sums.nats);
    sums.x0 = block_sum(sums.x0);
    if (threadIdx.x != 0) return;
    double *part = a.partial + BOUND_SUMS * (int64_t)blockIdx.x;
    part[0] = sums.nats, part[1] = sums.x0;
}

__global__ void __launch_bounds__(THREADS) bound_finish_kernel(bound_args a, int chunks)
{
    const int b = blockIdx.x * blockDim.x + threadIdx.x;
    bound_sums sums = {0.0, 0.0};
    if (b >= a.n) return;
    for (int i = 0; i < chunks; i++) {
        const double *part = a.partial + BOUND_SUMS * ((int64_t)b * chunks + i);
        sums.nats += part[0], sums.x0 += part[1];
    }
    bound_finish(&a, b, &sums);
}

ddpm_status k_bound(void *stream, const bound_args *a)
{
    const int chunks = loss_chunks(a->h, a->w, a->c);
    const dim3 grid(a->n * chunks);
    LAUNCH(bound_partial_kernel, grid, REDUCE_LANES, 0, (cudaStream_t)stream, *a, chunks);
    LAUNCH(bound_finish_kernel, dim3((a->n + THREADS - 1) / THREADS), THREADS, 0, (cudaStream_t)stream, *a, chunks);
    return launch_status();
}
