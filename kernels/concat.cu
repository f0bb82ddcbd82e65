#include "concat.h"
#include "row_tiles.cuh"

/* A panel whose quads are replaced by units: 16-byte vectors if both images consist of whole ones, otherwise single
 * elements.  Channels are counted in units. */
enum { TURNS = 4 };

typedef struct unit_place {
    bool inside, second;
    int column;       /* within its image */
    int64_t channels; /* of its image */
    panel_place at;
} unit_place;

static __device__ __forceinline__ unit_place unit_here(const panel &p, int64_t rows, int64_t c1, int64_t c2)
{
    unit_place u;
    u.at = panel_here(p, rows, 4 * (c1 + c2));
    const int column = u.at.column / 4;
    u.inside = u.at.count > 0;
    u.second = column >= c1;
    u.column = u.second ? column - (int)c1 : column;
    u.channels = u.second ? c2 : c1;
    return u;
}

template <class UNIT> __global__ void __launch_bounds__(PANEL_THREADS) concat_kernel(concat_args a, panel p)
{
    const unit_place u = unit_here(p, a.rows, a.c1, a.c2);
    const UNIT *from = (const UNIT *)(u.second ? a.x2 : a.x) + u.column;
    UNIT *to = (UNIT *)a.y + u.at.column / 4;
    UNIT v[TURNS];
    if (!u.inside) return;
    for (int k = 0; k < TURNS; k++) {
        const int64_t row = u.at.row + k * p.depth;
        if (row < u.at.last) v[k] = from[row * u.channels];
    }
    for (int k = 0; k < TURNS; k++) {
        const int64_t row = u.at.row + k * p.depth;
        if (row < u.at.last) to[row * (a.c1 + a.c2)] = v[k];
    }
}

static __device__ __forceinline__ concat_float sum_of(concat_float a, concat_float b, storage)
{
    return concat_sum_floats(a, b);
}
static __device__ __forceinline__ concat_bf16 sum_of(concat_bf16 a, concat_bf16 b, storage)
{
    return concat_sum_bf16(a, b);
}
static __device__ __forceinline__ concat_line sum_of(concat_line a, concat_line b, storage type)
{
    return concat_sum_lines(a, b, type);
}

template <class UNIT> __global__ void __launch_bounds__(PANEL_THREADS) concat_bwd_kernel(concat_bwd_args a, panel p)
{
    const unit_place u = unit_here(p, a.rows, a.c1, a.c2);
    const UNIT *from = (const UNIT *)a.dy + u.at.column / 4;
    UNIT *to = (UNIT *)(u.second ? a.dx2 : a.dx);
    const bool add = u.second ? a.add2 : a.add;
    UNIT v[TURNS], before[TURNS];
    if (!u.inside || !to) return;
    to += u.column;
    for (int k = 0; k < TURNS; k++) {
        const int64_t row = u.at.row + k * p.depth;
        if (row < u.at.last) v[k] = from[row * (a.c1 + a.c2)];
        if (row < u.at.last && add) before[k] = to[row * u.channels];
    }
    for (int k = 0; k < TURNS; k++) {
        const int64_t row = u.at.row + k * p.depth;
        if (row < u.at.last) to[row * u.channels] = add ? sum_of(before[k], v[k], a.type) : v[k];
    }
}

static bool whole_lines(int64_t c1, int64_t c2, storage type, const void *p, const void *q, const void *r)
{
    const int64_t line = type == STORE_BF16 ? 8 : 4;
    return c1 % line == 0 && c2 % line == 0 && (((uintptr_t)p | (uintptr_t)q | (uintptr_t)r) & 15u) == 0;
}

template <class UNIT> static void launch(void *stream, concat_args a, int64_t elements)
{
    a.c1 /= elements, a.c2 /= elements;
    const panel p = panel_of(a.rows, 4 * (a.c1 + a.c2), TURNS, 0);
    LAUNCH(concat_kernel<UNIT>, dim3((unsigned)(p.across * p.down)), PANEL_THREADS, 0, (cudaStream_t)stream, a, p);
}

template <class UNIT> static void launch_bwd(void *stream, concat_bwd_args a, int64_t elements)
{
    a.c1 /= elements, a.c2 /= elements;
    const panel p = panel_of(a.rows, 4 * (a.c1 + a.c2), TURNS, 0);
    LAUNCH(concat_bwd_kernel<UNIT>, dim3((unsigned)(p.across * p.down)), PANEL_THREADS, 0, (cudaStream_t)stream, a, p);
}

ddpm_status k_concat(void *stream, const concat_args *a)
{
    const bool low = a->type == STORE_BF16;
    if (whole_lines(a->c1, a->c2, a->type, a->x, a->x2, a->y))
        launch<concat_line>(stream, *a, low ? 8 : 4);
    else if (low)
        launch<concat_bf16>(stream, *a, 1);
    else
        launch<concat_float>(stream, *a, 1);
    return launch_status();
}

ddpm_status k_concat_bwd(void *stream, const concat_bwd_args *a)
{
    const bool low = a->type == STORE_BF16;
    if (whole_lines(a->c1, a->c2, a->type, a->dy, a->dx, a->dx2))
        launch_bwd<concat_line>(stream, *a, low ? 8 : 4);
    else if (low)
        launch_bwd<concat_bf16>(stream, *a, 1);
    else
        launch_bwd<concat_float>(stream, *a, 1);
    return launch_status();
}
