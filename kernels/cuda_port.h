/* cuda_port.h - the one place where a .cu file meets its three compilers.
 *
 *   nvcc         device code, <<<>>> launches            (backend cuda)
 *   g++ + emu    the same file as C++, fibers as threads (tests, sanitizers)
 *   cc  (C11)    only the HD math headers                (backend cpu)
 */
#ifndef DDPM_CUDA_PORT_H
#define DDPM_CUDA_PORT_H

#include "ddpm_status.h"

#ifdef __cplusplus
#define C_API extern "C"
#else
#define C_API
#endif

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define HD                                             static __host__ __device__ __forceinline__
#define LAUNCH(kernel, grid, block, smem, stream, ...) kernel<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)
#define SHARED(T, name, n)                             __shared__ T name[n]
#define SHARED_DYNAMIC(T, name)                                                                                        \
    extern __shared__ __align__(16) unsigned char name##_[];                                                           \
    T *name = reinterpret_cast<T *>(name##_)
static inline ddpm_status launch_status(void) { return cudaPeekAtLastError() == cudaSuccess ? DDPM_OK : DDPM_EBACKEND; }
#elif defined(DDPM_CUDA_EMU)
#include "emu/cuda_emu.h" /* tests/ is on the include path of emulated builds only */
#define HD static inline
#define LAUNCH(kernel, grid, block, smem, stream, ...)                                                                 \
    emu::launch(#kernel, (grid), (block), (smem), (stream), [&] { kernel(__VA_ARGS__); })
#define SHARED(T, name, n)                                                                                             \
    static const char name##_ = 0;                                                                                     \
    T *name = static_cast<T *>(emu::shared(&name##_, sizeof(T) * (n)))
#define SHARED_DYNAMIC(T, name) T *name = static_cast<T *>(emu::dynamic_shared())
static inline ddpm_status launch_status(void) { return emu::last_error()[0] ? DDPM_EBACKEND : DDPM_OK; }
#else
#define HD static inline
#endif

#endif
