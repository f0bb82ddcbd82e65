#include "loop_next.h"

__global__ void __launch_bounds__(1) loop_next_kernel(loop_next_args a) /* one thread */
{
    const int left = *a.count - 1;
    *a.count = left;
    GRAPH_CONDITION(a.handle, left > 0);
}

ddpm_status k_loop_next(void *stream, const loop_next_args *a)
{
    LAUNCH(loop_next_kernel, 1, 1, 0, (cudaStream_t)stream, *a);
    return launch_status();
}
