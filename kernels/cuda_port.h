/* cuda_port.h - macros that let three compilers build the .cu files and their headers.
 *
 *   nvcc         device code, <<<>>> launches               (backend cuda)
 *   g++ + emu    the same file as C++, fibers as threads    (tests, sanitizers)
 *   cc  (C11)    only the HD functions of the headers       (backend cpu) */
#ifndef DDPM_CUDA_PORT_H
#define DDPM_CUDA_PORT_H

#include "ddpm_status.h"

#ifdef __cplusplus
#define C_API extern "C"
#else
#define C_API
#endif

/* Handle that decides if the body of a WHILE node in a CUDA graph runs again (cudaGraphConditionalHandle). */
typedef unsigned long long graph_condition;

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define HD                                             static __host__ __device__ __forceinline__
#define LAUNCH(kernel, grid, block, smem, stream, ...) kernel<<<(grid), (block), (smem), (stream)>>>(__VA_ARGS__)
#define SHARED(T, name, n)                             __shared__ T name[n]
#define SHARED_DYNAMIC(T, name)                                                                                        \
    extern __shared__ __align__(16) unsigned char name##_[];                                                           \
    T *name = reinterpret_cast<T *>(name##_)
/* Allows launches with up to `bytes` of dynamic shared memory; the default limit is 48 KB. launch_status() reports a
 * refusal. */
#define SHARED_LIMIT(kernel, bytes)                                                                                    \
    ((void)cudaFuncSetAttribute((kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)))
/* Unrolls the following loop n times, completely without n.  Only device code has the pragma: compilers of host code, which
 * see HD functions too, would warn. */
#ifdef __CUDA_ARCH__
#define UNROLL_PRAGMA(text) _Pragma(#text)
#define UNROLL(n)           UNROLL_PRAGMA(unroll n)
#else
#define UNROLL(n)
#endif
#if CUDART_VERSION >= 12040
#define GRAPH_CONDITION(handle, value) cudaGraphSetConditional((handle), (value))
#else
#define GRAPH_CONDITION(handle, value) ((void)(handle), (void)(value)) /* older graphs have no WHILE nodes */
#endif
static inline ddpm_status launch_status(void) { return cudaPeekAtLastError() == cudaSuccess ? DDPM_OK : DDPM_EBACKEND; }
/* The maximum for SHARED_LIMIT() on the current device, bytes. */
static inline size_t shared_most(void)
{
    int device = 0, bytes = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) != cudaSuccess)
        return 48 * 1024;
    return (size_t)bytes;
}
#elif defined(DDPM_CUDA_EMU) && defined(__cplusplus)
#include "emu/cuda_emu.h" /* only emulated builds have tests/ on the include path */
#define HD                                     static inline
/* the variadic part is the stream and the kernel's arguments, since a kernel may have no arguments */
#define LAUNCH(kernel, grid, block, smem, ...) emu::launch(#kernel, kernel, (grid), (block), (smem), __VA_ARGS__)
#define SHARED(T, name, n)                                                                                             \
    static const char name##_ = 0;                                                                                     \
    T *name = static_cast<T *>(emu::shared(&name##_, sizeof(T) * (n)))
#define SHARED_DYNAMIC(T, name)     T *name = static_cast<T *>(emu::dynamic_shared())
#define SHARED_LIMIT(kernel, bytes) emu::shared_limit((const void *)(kernel), #kernel, (bytes))
#define UNROLL(n)
#define GRAPH_CONDITION(handle, value) emu::set_condition((handle), (value))
static inline ddpm_status launch_status(void) { return emu::last_error()[0] ? DDPM_EBACKEND : DDPM_OK; }
static inline size_t shared_most(void) { return emu::most_shared(); }
#else
#define HD static inline
#define UNROLL(n)
#endif

#endif
