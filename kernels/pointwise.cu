#include "pointwise.h"
#include "quad_run.cuh"

enum { THREADS = 256, TURNS = 4 }; /* TURNS quads per thread */

template <pointwise_kind KIND> __global__ void __launch_bounds__(THREADS) pointwise_kernel(pointwise_args a)
{
    const bool gradient = KIND == POINT_KIND_RELU_BWD || KIND == POINT_KIND_SILU_BWD;
    const int64_t first = (int64_t)blockIdx.x * (THREADS * TURNS) + threadIdx.x, full = a.count / 4;
    float x[TURNS][4], other[TURNS][4] = {}, y[TURNS][4] = {};
    const int64_t left = (full - first + THREADS - 1) / THREADS; /* full quads from `first` on */
    const quad_run quads = {4 * first, 4 * THREADS, left < TURNS ? left < 0 ? 0 : (int)left : TURNS, 4};
    run_load<TURNS>(x, a.x, a.x_type, quads);
    if (gradient) run_load<TURNS>(other, a.other, a.other_type, quads);
    if (a.accumulate) run_load<TURNS>(y, a.y, a.y_type, quads);
    for (int turn = 0; turn < TURNS; turn++)
        for (int k = 0; k < 4; k++) {
            const float value = pointwise_value(&a, KIND, x[turn][k], other[turn][k]);
            y[turn][k] = a.accumulate ? y[turn][k] + value : value;
        }
    run_store<TURNS>(a.y, a.y_type, quads, y);
    const int64_t rest = 4 * full + threadIdx.x; /* fewer than four elements remain */
    if (blockIdx.x > 0 || rest >= a.count) return;
    const float value =
        pointwise_value(&a, KIND, load_at(a.x, a.x_type, rest), gradient ? load_at(a.other, a.other_type, rest) : 0.0f);
    store_at(a.y, a.y_type, rest, a.accumulate ? load_at(a.y, a.y_type, rest) + value : value);
}

template <pointwise_kind KIND> static void launch(cudaStream_t stream, const pointwise_args *a)
{
    const int64_t blocks = (quads_of(a->count) + THREADS * TURNS - 1) / (THREADS * TURNS);
    LAUNCH(pointwise_kernel<KIND>, dim3((unsigned)blocks), THREADS, 0, stream, *a);
}

ddpm_status k_pointwise(void *stream, const pointwise_args *a)
{
    const cudaStream_t on = (cudaStream_t)stream;
    switch (a->kind) {
    case POINT_KIND_COPY: launch<POINT_KIND_COPY>(on, a); break;
    case POINT_KIND_AFFINE: launch<POINT_KIND_AFFINE>(on, a); break;
    case POINT_KIND_RELU: launch<POINT_KIND_RELU>(on, a); break;
    case POINT_KIND_RELU_BWD: launch<POINT_KIND_RELU_BWD>(on, a); break;
    case POINT_KIND_SILU: launch<POINT_KIND_SILU>(on, a); break;
    case POINT_KIND_SILU_BWD: launch<POINT_KIND_SILU_BWD>(on, a); break;
    }
    return launch_status();
}
