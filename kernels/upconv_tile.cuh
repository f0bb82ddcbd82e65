/* upconv_tile.cuh - transposes a tile of an upconv's filter from the order of W to that of K (upconv_fold.h), or
 * back.
 *
 * One thread per pair (co, ci).  ci is contiguous in W and co in K, so the tile goes through shared memory: TILE_IN
 * floats fill a sector of W, TILE_OUT values a wide access of K. */
#ifndef DDPM_UPCONV_TILE_CUH
#define DDPM_UPCONV_TILE_CUH
#include "upconv_fold.h"

enum {
    SMALL = 3,
    LARGE = 4,
    TAPS = SMALL * SMALL,
    TILE_OUT = 32,
    TILE_IN = 8,
    TILE_THREADS = TILE_OUT * TILE_IN,
    TILE_FLOATS = TAPS * TILE_OUT * (TILE_IN + 1)
};

/* A thread's position on either side of the transposition. */
typedef struct tile_place {
    int out, in; /* position in the tile */
    int64_t co, ci;
    bool inside;
} tile_place;

HD int tiles_of(int cout, int cin) { return (cout + TILE_OUT - 1) / TILE_OUT * ((cin + TILE_IN - 1) / TILE_IN); }

static __device__ __forceinline__ tile_place tile_here(int tile, int out, int in, int cout, int cin)
{
    const int across = (cin + TILE_IN - 1) / TILE_IN;
    tile_place p = {out, in, (int64_t)(tile / across) * TILE_OUT + out, (int64_t)(tile % across) * TILE_IN + in, false};
    p.inside = p.co < cout && p.ci < cin;
    return p;
}
static __device__ __forceinline__ tile_place tile_here_small(int tile, int cout, int cin) /* ci fastest, as in W */
{
    return tile_here(tile, threadIdx.x / TILE_IN, threadIdx.x % TILE_IN, cout, cin);
}
static __device__ __forceinline__ tile_place tile_here_large(int tile, int cout, int cin) /* co fastest, as in K */
{
    return tile_here(tile, threadIdx.x % TILE_OUT, threadIdx.x / TILE_OUT, cout, cin);
}

/* Index of one filter tap of the thread in shared memory, float [TILE_FLOATS]. */
static __device__ __forceinline__ int tile_at(const tile_place &p, int tap)
{
    return (tap * TILE_OUT + p.out) * (TILE_IN + 1) + p.in; /* + 1 avoids bank conflicts of a warp's TILE_OUT values */
}

/* Folds the taps of W in the tile, at the thread's position, to K. */
static __device__ __forceinline__ void tile_fold(const float *tile, const tile_place &p, void *k, storage type,
                                                 int cout)
{
    float columns[SMALL][LARGE]; /* columns of A W */
    for (int j = 0; j < SMALL; j++) {
        float w[SMALL];
        for (int i = 0; i < SMALL; i++) w[i] = tile[tile_at(p, i * SMALL + j)];
        fold_up(w, columns[j]);
    }
    for (int i = 0; i < LARGE; i++) {
        const float row[SMALL] = {columns[0][i], columns[1][i], columns[2][i]};
        float folded[LARGE];
        fold_up(row, folded);
        for (int j = 0; j < LARGE; j++) store_at(k, type, ((p.ci * LARGE + i) * LARGE + j) * cout + p.co, folded[j]);
    }
}

#endif
