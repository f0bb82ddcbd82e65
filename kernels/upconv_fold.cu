#include "upconv_fold.h"

/* One thread a pair (co, ci).  W runs along ci and K along co, so a block's share goes through shared
 * memory in between: TILE_IN floats fill a sector of W, TILE_OUT values a wide access of K. */
enum { SMALL = 3, LARGE = 4, TAPS = SMALL * SMALL, TILE_OUT = 32, TILE_IN = 8, THREADS = TILE_OUT * TILE_IN };

/* Where the thread stands on either side of the transposition. */
typedef struct fold_place {
    int out, in; /* in the tile */
    int64_t co, ci;
    bool inside;
} fold_place;

static __device__ __forceinline__ fold_place place_of(int out, int in, int cout, int cin)
{
    const int across = (cin + TILE_IN - 1) / TILE_IN;
    fold_place p = {out, in, (int64_t)(blockIdx.x / across) * TILE_OUT + out,
                    (int64_t)(blockIdx.x % across) * TILE_IN + in, false};
    p.inside = p.co < cout && p.ci < cin;
    return p;
}
static __device__ __forceinline__ fold_place small_place(int cout, int cin)
{
    return place_of(threadIdx.x / TILE_IN, threadIdx.x % TILE_IN, cout, cin);
}
static __device__ __forceinline__ fold_place large_place(int cout, int cin)
{
    return place_of(threadIdx.x % TILE_OUT, threadIdx.x / TILE_OUT, cout, cin);
}

static __device__ __forceinline__ int tile_at(const fold_place &p, int tap)
{
    return (tap * TILE_OUT + p.out) * (TILE_IN + 1) + p.in; /* + 1: a warp's TILE_OUT values in as many banks */
}

__global__ void upconv_fold_kernel(upconv_fold_args a)
{
    SHARED(float, tile, TAPS *TILE_OUT *(TILE_IN + 1));
    const fold_place from = small_place(a.cout, a.cin), to = large_place(a.cout, a.cin);
    for (int tap = 0; tap < TAPS && from.inside; tap++)
        tile[tile_at(from, tap)] = a.w[(from.co * TAPS + tap) * a.cin + from.ci];
    __syncthreads();
    if (!to.inside) return;
    float columns[SMALL][LARGE]; /* (A W) by columns */
    for (int j = 0; j < SMALL; j++) {
        float w[SMALL];
        for (int i = 0; i < SMALL; i++) w[i] = tile[tile_at(to, i * SMALL + j)];
        fold_up(w, columns[j]);
    }
    for (int i = 0; i < LARGE; i++) {
        const float row[SMALL] = {columns[0][i], columns[1][i], columns[2][i]};
        float k[LARGE];
        fold_up(row, k);
        for (int j = 0; j < LARGE; j++) store_at(a.k, a.type, ((to.ci * LARGE + i) * LARGE + j) * a.cout + to.co, k[j]);
    }
}

__global__ void upconv_unfold_kernel(upconv_unfold_args a)
{
    SHARED(float, tile, TAPS *TILE_OUT *(TILE_IN + 1));
    const fold_place from = large_place(a.cout, a.cin), to = small_place(a.cout, a.cin);
    if (from.inside) {
        float columns[LARGE][SMALL]; /* (A^T dK) by columns */
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

static dim3 tiles_of(int cout, int cin)
{
    return dim3((unsigned)((cout + TILE_OUT - 1) / TILE_OUT * ((cin + TILE_IN - 1) / TILE_IN)));
}

ddpm_status k_upconv_fold(void *stream, const upconv_fold_args *a)
{
    LAUNCH(upconv_fold_kernel, tiles_of(a->cout, a->cin), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}

ddpm_status k_upconv_unfold(void *stream, const upconv_unfold_args *a)
{
    LAUNCH(upconv_unfold_kernel, tiles_of(a->cout, a->cin), THREADS, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
