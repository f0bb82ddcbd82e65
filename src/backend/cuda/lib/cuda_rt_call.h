/* cuda_rt_call.h - how the files that implement cuda_rt.h call the CUDA runtime. */
#ifndef DDPM_CUDA_RT_CALL_H
#define DDPM_CUDA_RT_CALL_H
#include "backend/cuda/lib/cuda_rt.h"

#include <cuda_runtime_api.h>

#if CUDART_VERSION < 12000
#error "CUDA 12.0 or newer is required"
#endif
#define HAVE_LOOPS (CUDART_VERSION >= 12040)

/* Sets e and clears CUDA's last error of this thread: an error that was reported here must not be reported again at
 * the next kernel launch. */
ddpm_status rt_failed(const char *call, cudaError_t why, err *e);

#define CALL(function, ...)                                                                                            \
    do {                                                                                                               \
        const cudaError_t why_ = function(__VA_ARGS__);                                                                \
        if (why_ != cudaSuccess) return rt_failed(#function, why_, e);                                                 \
    } while (0)

/* For destructors: nobody could handle the error. */
static inline void quietly(cudaError_t why)
{
    if (why != cudaSuccess) (void)cudaGetLastError();
}

#endif
