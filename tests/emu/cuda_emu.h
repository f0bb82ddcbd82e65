/* cuda_emu.h - the part of the CUDA execution model that is needed to run a .cu file as C++, without a GPU.
 *
 * The blocks of a launch run one after another.  The threads of a block are fibers on one OS thread, so the emulator
 * chooses every interleaving and repeats it exactly.  It chooses the least friendly one that CUDA allows: each warp,
 * and in it each lane, runs as far as it can alone, in one of three orders.  With a missing barrier the orders give
 * different results.
 *
 * What a GPU leaves undefined is an error here, reported with kernel, block, thread and file:line: a barrier that some
 * threads do not reach, two different barriers at once, a shuffle or vote whose mask names a lane that has exited,
 * waits elsewhere or does not exist, a value read from a lane outside the mask.  Shared memory is malloc'ed exactly and
 * filled with NaN (all bits set), so that AddressSanitizer checks its bounds and a test notices a read of uninitialized
 * shared memory.
 *
 * Not modelled: timing, caches, memory ordering between blocks, occupancy.  Float atomics are missing on purpose: the
 * result of a sum would depend on the order. */
#ifndef DDPM_CUDA_EMU_H
#define DDPM_CUDA_EMU_H
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

using cudaStream_t = void *; /* without emu_rt.cpp a launch is complete when LAUNCH returns */

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) double2 {
    double x, y;
};
struct alignas(8) int2 {
    int x, y;
};
struct alignas(16) int4 {
    int x, y, z, w;
};
struct alignas(8) uint2 {
    unsigned x, y;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};
struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline uchar4 make_uchar4(unsigned char x, unsigned char y, unsigned char z, unsigned char w) { return {x, y, z, w}; }

namespace emu
{
enum class order { forward, reverse, shuffled };

/* Sets the order of blocks, warps and lanes; also clears the last error. */
void set_order(order o, unsigned seed = 1);
void set_threads(order o, unsigned seed = 1); /* the same without clearing the error */

/* The first error since set_order(), "" for none.  As in CUDA errors are sticky: later launches do nothing. */
const char *last_error();
/* Reports an error, unless there is one already. */
void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The function that receives launches and other work of a stream.  NULL, the default: they run immediately. */
using sink = void (*)(cudaStream_t stream, const char *what, std::function<void()> run);
void set_sink(sink s);

/* Sets the largest shared memory of a block in bytes; the default is 227 KB, as on sm_90. */
void set_shared_most(size_t bytes);
size_t most_shared();

struct geometry {
    const char *name;
    const void *kernel;
    dim3 grid, block;
    size_t shared_bytes; /* dynamic shared memory of a block */
};

/* Checks the launch configuration, then runs `body` once for every thread. */
void submit(const geometry &g, cudaStream_t stream, std::function<void()> body);

/* A launch copies its arguments now, even if it runs later. */
template <class... P, class... A>
void launch(const char *name, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            A &&...arguments)
{
    static_assert((!std::is_reference<P>::value && ...), "a kernel's parameters are values");
    const std::tuple<P...> copy(std::forward<A>(arguments)...);
    submit({name, reinterpret_cast<const void *>(kernel), grid, block, shared_bytes}, stream,
           [=] { std::apply(kernel, copy); });
}

void shared_limit(const void *kernel, const char *name, size_t bytes);

/* ---- for the macros and functions below ---- */
struct index {
    dim3 thread, block, block_dim, grid_dim;
};
extern index *cur;

struct place {
    const char *what, *file;
    int line;
};

enum class collective { sync, shuffle, vote };

void *shared(const void *site, size_t bytes); /* one allocation for each block and site */
void *dynamic_shared();
inline void set_condition(unsigned long long handle, unsigned value)
{
    *reinterpret_cast<unsigned *>(static_cast<uintptr_t>(handle)) = value;
}
void barrier(const place &at);
/* Waits for all lanes of `mask`.  shuffle: the value of lane `source`; vote: bit l = lane l's value is not 0. */
uint64_t meet(collective kind, unsigned mask, uint64_t value, int source, const place &at);
int lane();

/* The lane `source` if it is in this lane's segment of `width`, else this lane itself. */
inline int in_segment(int source, int width)
{
    return source / width == lane() / width && source >= 0 ? source : lane();
}

template <class T> T shuffle(unsigned mask, T value, int source, const place &at)
{
    static_assert(std::is_trivially_copyable<T>::value && sizeof(T) <= 8, "a shuffle moves at most 8 bytes");
    uint64_t word = 0;
    memcpy(&word, &value, sizeof value);
    word = meet(collective::shuffle, mask, word, source, at);
    memcpy(&value, &word, sizeof value);
    return value;
}
} // namespace emu

#define threadIdx (emu::cur->thread)
#define blockIdx  (emu::cur->block)
#define blockDim  (emu::cur->block_dim)
#define gridDim   (emu::cur->grid_dim)
#define warpSize  32

/* Default arguments are evaluated at the call, so an error names the place of the call. */
#define EMU_PLACE const char *file = __builtin_FILE(), int line = __builtin_LINE()
#define EMU_AT(what_)                                                                                                  \
    emu::place { what_, file, line }

inline void __syncthreads(EMU_PLACE) { emu::barrier(EMU_AT("__syncthreads")); }
inline void __syncwarp(unsigned mask = ~0u, EMU_PLACE)
{
    emu::meet(emu::collective::sync, mask, 0, 0, EMU_AT("__syncwarp"));
}
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, EMU_PLACE)
{
    const int base = emu::lane() / width * width;
    return emu::shuffle(mask, value, base + (source & (width - 1)), EMU_AT("__shfl_sync"));
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_PLACE)
{
    return emu::shuffle(mask, value, emu::in_segment(emu::lane() - (int)delta, width), EMU_AT("__shfl_up_sync"));
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, EMU_PLACE)
{
    return emu::shuffle(mask, value, emu::in_segment(emu::lane() + (int)delta, width), EMU_AT("__shfl_down_sync"));
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, EMU_PLACE)
{
    return emu::shuffle(mask, value, emu::in_segment(emu::lane() ^ bits, width), EMU_AT("__shfl_xor_sync"));
}
inline unsigned __ballot_sync(unsigned mask, int predicate, EMU_PLACE)
{
    return (unsigned)emu::meet(emu::collective::vote, mask, predicate != 0, 0, EMU_AT("__ballot_sync"));
}
inline int __any_sync(unsigned mask, int predicate, EMU_PLACE)
{
    return emu::meet(emu::collective::vote, mask, predicate != 0, 0, EMU_AT("__any_sync")) != 0;
}
inline int __all_sync(unsigned mask, int predicate, EMU_PLACE)
{
    return emu::meet(emu::collective::vote, mask, predicate != 0, 0, EMU_AT("__all_sync")) == mask;
}

template <class T> T __ldg(const T *p) { return *p; }

template <class T> using emu_integer = typename std::enable_if<std::is_integral<T>::value && sizeof(T) >= 4, T>::type;
template <class T> T emu_exchange(T *p, T value)
{
    const T old = *p;
    *p = value;
    return old;
}
template <class T> emu_integer<T> atomicAdd(T *p, T v)
{
    /* as unsigned: integers wrap on a GPU */
    using word = typename std::make_unsigned<T>::type;
    return emu_exchange(p, (T)((word)*p + (word)v));
}
template <class T> emu_integer<T> atomicMin(T *p, T v) { return emu_exchange(p, v < *p ? v : *p); }
template <class T> emu_integer<T> atomicMax(T *p, T v) { return emu_exchange(p, v > *p ? v : *p); }
template <class T> emu_integer<T> atomicAnd(T *p, T v) { return emu_exchange(p, (T)(*p & v)); }
template <class T> emu_integer<T> atomicOr(T *p, T v) { return emu_exchange(p, (T)(*p | v)); }
template <class T> emu_integer<T> atomicExch(T *p, T v) { return emu_exchange(p, v); }
template <class T> emu_integer<T> atomicCAS(T *p, T expected, T v) { return emu_exchange(p, *p == expected ? v : *p); }

#endif
