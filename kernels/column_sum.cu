#include "column_sum.h"
#include "row_tiles.cuh"

enum { BATCH = COLUMN_SUM_TURNS };

/* Block (down, across): a block of rows.  A thread adds its rows in groups of BATCH, which keeps the rounding error
 * in float small; a tree adds the threads of a column. */
__global__ void __launch_bounds__(PANEL_THREADS) column_sum_partial_kernel(column_sum_args a, panel p)
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

enum { COLUMNS = 8, LANES = 32 };

__global__ void __launch_bounds__(LANES *COLUMNS)
    column_sum_finish_kernel(column_sum_args a, int64_t down) /* one block per COLUMNS columns */
{
    SHARED(double, lanes, LANES *COLUMNS);
    const int me = threadIdx.x;
    const int64_t column = (int64_t)blockIdx.x * COLUMNS + me % COLUMNS;
    double sum = 0.0;
    if (column < a.c)
        for (int64_t r = me / COLUMNS; r < down; r += LANES) sum += (double)a.partial[r * a.c + column];
    lanes[me] = sum;
    for (int half = LANES * COLUMNS / 2; half >= COLUMNS; half /= 2) {
        __syncthreads();
        if (me < half) lanes[me] += lanes[me + half];
    }
    if (me < COLUMNS && column < a.c) a.sums[column] = (a.accumulate ? a.sums[column] : 0.0f) + (float)lanes[me];
}

ddpm_status k_column_sum(void *stream, const column_sum_args *a)
{
    const panel p = column_sum_panel(a->rows, a->c);
    const unsigned finishers = (unsigned)((a->c + COLUMNS - 1) / COLUMNS);
    LAUNCH(column_sum_partial_kernel, dim3((unsigned)(p.across * p.down)), PANEL_THREADS, 0, (cudaStream_t)stream, *a,
           p);
    LAUNCH(column_sum_finish_kernel, dim3(finishers), LANES * COLUMNS, 0, (cudaStream_t)stream, *a, p.down);
    return launch_status();
}
