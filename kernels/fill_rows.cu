#include "fill_rows.h"
#include "row_tiles.cuh"

enum { TURNS = 4 };

__global__ void __launch_bounds__(PANEL_THREADS) fill_rows_kernel(fill_rows_args a, panel p)
{
    const panel_place at = panel_here(p, a.rows, a.c);
    const quad_run quads = panel_run<TURNS>(p, at, at.row, a.c);
    float bias[4] = {0.0f, 0.0f, 0.0f, 0.0f}, y[TURNS][4] = {};
    if (quads.n == 0 || quads.count == 0) return;
    if (a.bias) quad_load(bias, a.bias + at.column, at.count);
    if (a.residual) run_load<TURNS>(y, a.residual, a.type, quads);
    for (int r = 0; r < TURNS; r++)
        for (int k = 0; k < 4; k++) y[r][k] += bias[k];
    run_store<TURNS>(a.y, a.type, quads, y);
}

ddpm_status k_fill_rows(void *stream, const fill_rows_args *a)
{
    const panel p = panel_of(a->rows, a->c, TURNS, 0);
    LAUNCH(fill_rows_kernel, dim3((unsigned)(p.across * p.down)), PANEL_THREADS, 0, (cudaStream_t)stream, *a, p);
    return launch_status();
}
