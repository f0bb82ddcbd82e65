#include "adamw.h"
#include "quad.h"

enum { THREADS = 256 }; /* one thread per quad */

/* MORE: averages beside the first. */
template <int MORE> __global__ void __launch_bounds__(THREADS) adamw_kernel(adamw_args a, adamw_more more)
{
    const int64_t q = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (q >= quads_of(a.count)) return;
    const int64_t at = 4 * q;
    const int count = quad_count(a.count, q);
    adamw_factors f = adamw_prepare(&a);
    if (adamw_is_fixed(&a, at)) adamw_fix(&f);
    const float zero[4] = {0.0f, 0.0f, 0.0f, 0.0f};
    if (f.clip != 0.0f) {
        float w[4], g[4], m[4], v[4], ema[4];
        quad_load(w, a.w + at, count);
        quad_load(g, a.g + at, count);
        quad_load(m, a.m + at, count);
        quad_load(v, a.v + at, count);
        if (a.ema) quad_load(ema, a.ema + at, count);
        for (int k = 0; k < 4; k++) adamw_element(&f, g[k], &w[k], &m[k], &v[k]);
        quad_store(a.w + at, w, count);
        quad_store(a.m + at, m, count);
        quad_store(a.v + at, v, count);
        if (a.low) quad_store_as(a.low, a.low_type, at, w, count);
        if (a.ema) {
            for (int k = 0; k < 4; k++) ema[k] = adamw_ema(f.ema_rate, ema[k], w[k]);
            quad_store(a.ema + at, ema, count);
        }
        for (int j = 0; j < MORE; j++) {
            if (!more.ema[j]) continue;
            quad_load(ema, more.ema[j] + at, count);
            for (int k = 0; k < 4; k++) ema[k] = adamw_ema(a.state->more_ema_rate[j], ema[k], w[k]);
            quad_store(more.ema[j] + at, ema, count);
        }
    }
    if (a.zero_grad) quad_store(a.g + at, zero, count);
}

ddpm_status k_adamw(void *stream, const adamw_args *a)
{
    const int64_t blocks = (quads_of(a->count) + THREADS - 1) / THREADS;
    const adamw_more none = {{NULL}};
    if (a->more)
        LAUNCH(adamw_kernel<EMA_MORE>, dim3((unsigned)blocks), THREADS, 0, (cudaStream_t)stream, *a, *a->more);
    else
        LAUNCH(adamw_kernel<0>, dim3((unsigned)blocks), THREADS, 0, (cudaStream_t)stream, *a, none);
    return launch_status();
}
