#include "upconv_tile.cuh"

__global__ void __launch_bounds__(TILE_THREADS) upconv_fold_kernel(upconv_fold_args a)
{
    SHARED(float, tile, TILE_FLOATS);
    const tile_place from = tile_here_small(blockIdx.x, a.cout, a.cin), to = tile_here_large(blockIdx.x, a.cout, a.cin);
    for (int tap = 0; tap < TAPS && from.inside; tap++)
        tile[tile_at(from, tap)] = a.w[(from.co * TAPS + tap) * a.cin + from.ci];
    __syncthreads();
    if (to.inside) tile_fold(tile, to, a.k, a.type, a.cout);
}

__global__ void __launch_bounds__(TILE_THREADS) upconv_unfold_kernel(upconv_unfold_args a)
{
    SHARED(float, tile, TILE_FLOATS);
    const tile_place from = tile_here_large(blockIdx.x, a.cout, a.cin), to = tile_here_small(blockIdx.x, a.cout, a.cin);
    if (from.inside) {
        float columns[LARGE][SMALL]; /* columns of A^T dK */
        for (int j = 0; j < LARGE; j++) {
            float k[LARGE];
            for (int i = 0; i < LARGE; i++)
                k[i] = load_at(a.dk, a.type, ((from.ci * LARGE + i) * LARGE + j) * a.cout + from.co);
            fold_down(k, columns[j]);
        }
        for (int i = 0; i < SMALL; i++) {
            const float row[LARGE] = {columns[0][i], columns[1][i], columns[2][i], columns[3][i]};
            float w[SMALL];
            fold_down(row, w);
            for (int j = 0; j < SMALL; j++) tile[tile_at(from, i * SMALL + j)] = w[j];
        }
    }
    __syncthreads();
    for (int tap = 0; tap < TAPS && to.inside; tap++) {
        float *dw = a.dw + (to.co * TAPS + tap) * a.cin + to.ci;
        *dw = (a.accumulate ? *dw : 0.0f) + tile[tile_at(to, tap)];
    }
}

ddpm_status k_upconv_fold(void *stream, const upconv_fold_args *a)
{
    LAUNCH(upconv_fold_kernel, dim3((unsigned)tiles_of(a->cout, a->cin)), TILE_THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}

ddpm_status k_upconv_unfold(void *stream, const upconv_unfold_args *a)
{
    LAUNCH(upconv_unfold_kernel, dim3((unsigned)tiles_of(a->cout, a->cin)), TILE_THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
