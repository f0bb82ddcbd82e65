#include "loss.h"
#include "reduce.cuh"

enum { THREADS = 128 }; /* of the finish, one per image */

/* Block (b, chunk): one thread per lane of reduce.h.  PLAIN: l2 without offset, for whose loop the rest would be long. */
template <bool PLAIN> __global__ void __launch_bounds__(REDUCE_LANES) loss_partial_kernel(loss_args a, int chunks)
{
    if (PLAIN) a.kind = LOSS_L2, a.noise_offset = 0.0f;
    const int b = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    const drawn_image m = loss_image(&a, b);
    a = loss_args_of(&a, b);
    double error = 0.0, loss = 0.0;
    for (int turn = 0; turn < REDUCE_TURNS; turn++) {
        const int64_t q = (int64_t)chunk * REDUCE_QUADS + turn * REDUCE_LANES + threadIdx.x;
        if (q >= quads_of(m.d)) break;
        const normal4 eps = eps_quad(&m, (int)q);
        const loss_sums one = loss_quad(&a, &m, b, (int)q, eps.v, a.kind);
        error += one.error, loss += one.loss;
    }
    error = block_sum(error);
    if (a.kind != LOSS_L2) loss = block_sum(loss);
    if (threadIdx.x == 0) {
        double *part = a.partial + LOSS_SUMS * (int64_t)blockIdx.x;
        part[0] = error, part[1] = a.kind == LOSS_L2 ? error : loss, part[2] = 0.0;
    }
}

/* The same with a learned variance. */
__global__ void __launch_bounds__(REDUCE_LANES) loss_learned_kernel(loss_args a, int chunks)
{
    const int b = blockIdx.x / chunks, chunk = blockIdx.x % chunks;
    const drawn_image m = loss_image(&a, b);
    a = loss_args_of(&a, b);
    loss_sums sums = {0.0, 0.0, 0.0};
    for (int turn = 0; turn < REDUCE_TURNS; turn++) {
        const int64_t q = (int64_t)chunk * REDUCE_QUADS + turn * REDUCE_LANES + threadIdx.x;
        if (q >= quads_of(m.d)) break;
        const normal4 eps = eps_quad(&m, (int)q);
        const loss_sums one = loss_learned_quad(&a, &m, b, (int)q, eps.v);
        sums.error += one.error, sums.loss += one.loss, sums.nats += one.nats;
    }
    sums.error = block_sum(sums.error);
    sums.loss = block_sum(sums.loss);
    sums.nats = block_sum(sums.nats);
    if (threadIdx.x != 0) return;
    double *part = a.partial + LOSS_SUMS * (int64_t)blockIdx.x;
    part[0] = sums.error, part[1] = sums.loss, part[2] = sums.nats;
}

__global__ void __launch_bounds__(THREADS) loss_finish_kernel(loss_args a, int chunks)
{
    const int b = blockIdx.x * blockDim.x + threadIdx.x;
    loss_sums sums = {0.0, 0.0, 0.0};
    if (b >= a.n) return;
    for (int i = 0; i < chunks; i++) {
        const double *part = a.partial + LOSS_SUMS * ((int64_t)b * chunks + i);
        sums.error += part[0], sums.loss += part[1], sums.nats += part[2];
    }
    loss_finish(&a, b, &sums);
}

ddpm_status k_loss(void *stream, const loss_args *a)
{
    const int chunks = loss_chunks(a->h, a->w, a->c);
    const dim3 grid(a->n * chunks);
    if (a->learned)
        LAUNCH(loss_learned_kernel, grid, REDUCE_LANES, 0, (cudaStream_t)stream, *a, chunks);
    else if (a->kind == LOSS_L2 && a->noise_offset == 0.0f)
        LAUNCH(loss_partial_kernel<true>, grid, REDUCE_LANES, 0, (cudaStream_t)stream, *a, chunks);
    else
        LAUNCH(loss_partial_kernel<false>, grid, REDUCE_LANES, 0, (cudaStream_t)stream, *a, chunks);
    LAUNCH(loss_finish_kernel, dim3((a->n + THREADS - 1) / THREADS), THREADS, 0, (cudaStream_t)stream, *a, chunks);
    return launch_status();
}
