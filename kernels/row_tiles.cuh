/* row_tiles.cuh - the position of a thread in a panel (row_tiles.h), and its next rows as a run of quads. */
#ifndef DDPM_PANEL_CUH
#define DDPM_PANEL_CUH
#include "row_tiles.h"
#include "quad_run.cuh"

typedef struct panel_place {
    int column;        /* column of its quads */
    int count;         /* elements of its quads; 0: outside the matrix */
    int64_t down;      /* index of the block in y */
    int64_t row, last; /* first row of the thread; end of its block's rows */
} panel_place;

static __device__ __forceinline__ panel_place panel_here(const panel &p, int64_t rows, int64_t c)
{
    panel_place at;
    at.down = blockIdx.x / p.across;
    at.column = 4 * ((int)(blockIdx.x % p.across) * p.width + (int)threadIdx.x % p.width);
    at.count = c - at.column < 4 ? c > at.column ? (int)(c - at.column) : 0 : 4;
    at.row = at.down * p.height + threadIdx.x / p.width;
    at.last = (at.down + 1) * p.height < rows ? (at.down + 1) * p.height : rows;
    return at;
}

/* The thread's quads in N of its rows, from `row` on. */
template <int N>
static __device__ __forceinline__ quad_run panel_run(const panel &p, const panel_place &at, int64_t row, int64_t c)
{
    const int64_t left = at.last > row ? (at.last - row + p.depth - 1) / p.depth : 0;
    const quad_run r = {row * c + at.column, p.depth * c, left < N ? (int)left : N, at.count};
    return r;
}

#endif
