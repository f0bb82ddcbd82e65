#include "column_sum.h"
#include "row_tiles.cuh"

enum { BATCH = COLUMN_SUM_TURNS };

/* Block (down, across): a block of rows.  A thread adds its rows in groups of BATCH, which keeps the rounding error
 * in float small; a tree adds the threads of a column. */
__global__ void __launch_bounds__(PANEL_THREADS) column_sum_kernel(column_sum_args a, panel p)
{
    SHARED(float_quad, lane, PANEL_THREADS);
    const panel_place at = panel_here(p, a.rows, a.c);
    const int me = threadIdx.x;
    float_quad sum = {{0.0f, 0.0f, 0.0f, 0.0f}};
    for (int64_t row = at.row; at.count && row < at.last; row += BATCH * p.depth) {
        float x[BATCH][4], part[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        run_load<BATCH>(x, a.x, a.type, panel_run<BATCH>(p, at, row, a.c));
        for (int r = 0; r < BATCH; r++)
            for (int k = 0; k < 4; k++) part[k] += x[r][k];
        for (int k = 0; k < 4; k++) sum.v[k] += part[k];
    }
    lane[me] = sum;
    for (int half = p.depth * p.width / 2; half >= p.width; half /= 2) {
        __syncthreads();
        if (me < half)
            for (int k = 0; k < 4; k++) lane[me].v[k] += lane[me + half].v[k];
    }
    if (me < p.width && at.count) quad_store(a.partial + at.down * a.c + at.column, lane[me].v, at.count);
}

ddpm_status k_column_sum(void *stream, const column_sum_args *a)
{
    const panel p = column_sum_panel(a->rows, a->c);
    LAUNCH(column_sum_kernel, dim3((unsigned)(p.across * p.down)), PANEL_THREADS, 0, (cudaStream_t)stream, *a, p);
    return launch_status();
}
