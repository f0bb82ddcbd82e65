/* norm_act.cuh - how norm_act.cu and norm_act_bwd.cu split their work into blocks, and code that both share.
 *
 * A block computes a range of whole groups of one image: of every pixel it reads at least 64, or 32, contiguous
 * bytes.  If all pixels of a range fit into half of the shared memory (the slab), global memory is read once.  If not
 * (64x64 and larger), each image is distributed over blocks in chunks of pixels, with one kernel for the
 * sums and one for the result: the second reads x again, from the L2 cache if a layer of the whole batch fits there.
 * Chunks also occupy the device when images are few and large, which a single block for all pixels would not.
 *
 * Threads form `columns` of one vector access each, side by side in the range, and as many rows of pixels as the
 * number of threads allows.  A thread visits the same pixels in every pass, so each thread reads only its own data
 * from the slab. */
#ifndef DDPM_NORM_ACT_CUH
#define DDPM_NORM_ACT_CUH
#include "norm_act.h"
#include <limits.h>
#include <string.h>

constexpr size_t NORM_ACCESS = 16; /* bytes of a vector access */

enum {
    NORM_WARP = 32,
    NORM_THREADS = 512, /* threads of the widest block; NORM_THREADS_SCALAR if accesses are of single elements */
    NORM_THREADS_SCALAR = NORM_ACT_GROUP_MAX,
    NORM_CHUNK_THREADS = 256,  /* the same without a slab, in the backward pass */
    NORM_BATCH = 4,            /* loads in flight per thread */
    NORM_BLOCK_RESERVE = 1024, /* bytes of shared memory per block reserved by the system */
    NORM_BLOCKS = 256, /* blocks wanted of a launch for few images: two for each of an H200's 132 multiprocessors */
    NORM_COLUMNS = 32, /* kernels that add partial sums: channels per block */
    NORM_SLICES = 8    /* and threads per channel */
};

template <bool WIDE> struct norm_word {
    typedef uint32_t type;
};
template <> struct norm_word<false> {
    typedef uint16_t type;
};

/* E elements of one vector access. */
template <class T, int E> struct alignas(sizeof(T) * E < NORM_ACCESS ? sizeof(T) * E : NORM_ACCESS) norm_pack {
    T v[E];
};

HD int norm_least(int a, int b) { return a < b ? a : b; }
HD int norm_most(int a, int b) { return a > b ? a : b; }

static __device__ __forceinline__ float norm_widen(float v) { return v; }
static __device__ __forceinline__ float norm_widen(bf16 v) { return bf16_to_f32(v); }
static __device__ __forceinline__ void norm_narrow(float v, float *to) { *to = v; }
static __device__ __forceinline__ void norm_narrow(float v, bf16 *to) { *to = bf16_of(v); }

/* E elements of one vector access as words: nvcc would split them into a register each, at the load. */
template <class T, int E> struct alignas(norm_pack<T, E>) norm_words {
    typedef typename norm_word<(sizeof(T) * E >= sizeof(uint32_t))>::type word;
    word w[sizeof(T) * E / sizeof(word)];
};

template <int E, class T> __device__ __forceinline__ norm_words<T, E> norm_get(const T *p)
{
    return *reinterpret_cast<const norm_words<T, E> *>(p);
}

template <int E> __device__ __forceinline__ void norm_floats(float *v, const norm_words<float, E> &in)
{
    memcpy(v, in.w, sizeof in);
}

/* A bf16 is the high half of a float; the first of two is the low half of their word. */
template <int E> __device__ __forceinline__ void norm_floats(float *v, const norm_words<bf16, E> &in)
{
    for (int e = 0; e < E; e++) {
        const uint32_t word = in.w[e / 2], bits = e % 2 ? word & 0xFFFF0000u : word << 16;
        memcpy(&v[e], &bits, sizeof bits);
    }
}

template <class T, class V> __device__ __forceinline__ void norm_put(T *p, const V &v) /* norm_pack or norm_words */
{
    *reinterpret_cast<V *>(p) = v;
}

/* Writes E floats to shared memory, in accesses of at most 16 bytes. */
template <int E> __device__ __forceinline__ void norm_put_floats(float *to, const float *v)
{
    constexpr int PART = E < 4 ? E : 4;
    for (int part = 0; part < E; part += PART) {
        norm_pack<float, PART> out;
        for (int e = 0; e < PART; e++) out.v[e] = v[part + e];
        norm_put(to + part, out);
    }
}

/* sigmoid(z) as a kernel of storage type T needs it.  In float it is norm_sigmoid(), with the same bits as on the CPU.  In
 * bf16 the GPU's approximations of 2^x and 1 / x suffice: their errors (CUDA C++ Programming Guide, "Intrinsic Functions":
 * 2 ulp and 1 ulp) and that of the rounded exponent, |z| 2^-24, are less than 2^-18 of the result for |z| < 32, and a bf16
 * is rounded by up to 2^-9.  In the forward pass on sm_90 this saves 35 of 46 instructions per element. */
template <class T> __device__ __forceinline__ float norm_sigmoid_as(float z) { return norm_sigmoid(z); }
#ifdef __CUDA_ARCH__
template <> __device__ __forceinline__ float norm_sigmoid_as<bf16>(float z)
{
    float e, s;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(e) : "f"(z * -0x1.715476p+0f));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(s) : "f"(1.0f + e));
    return s;
}
#endif

/* ---- the split into blocks, computed on the host ----
 *
 * Kernels request the maximum of shared memory, whatever a launch uses: the limit is an attribute of the kernel, and
 * when a captured graph is instantiated later, the limit must be at least as large as at the captured launches. */

typedef struct norm_cut {
    int vector;         /* elements per access: 1, or as many as NORM_ACCESS bytes hold */
    int range, ranges;  /* channels per block: whole groups, a multiple of `vector`; ranges per image */
    int groups;         /* groups per range */
    int pixels, chunks; /* pixels per block; chunks per image, 1: the slab holds a range of a whole image */
    int threads;
    size_t slab, shared; /* bytes: of the slab (0: none), and of all dynamic shared memory */
} norm_cut;

typedef struct norm_want {
    size_t element;  /* bytes per element of the slab */
    size_t shared;   /* bytes available to a block */
    bool aligned;    /* every array begins at a multiple of NORM_ACCESS bytes */
    bool chunk_slab; /* chunks are kept in a slab, too */
} norm_want;

static inline int norm_storage_bytes(const norm_act_args *a) { return a->type == STORE_BF16 ? 2 : 4; }
static inline bool norm_is_aligned(const void *p) { return (uintptr_t)p % NORM_ACCESS == 0; }

static inline bool norm_shape_is_sound(const norm_act_args *a)
{
    const int64_t c = (int64_t)a->c1 + a->c2;
    return a->n > 0 && a->hw > 0 && a->c1 > 0 && a->c2 >= 0 && (a->x2 != NULL) == (a->c2 > 0) && a->groups > 0 &&
           c <= INT_MAX / 2 && c % a->groups == 0 && c / a->groups <= NORM_ACT_GROUP_MAX &&
           (a->cond != NULL) == (a->kind != NORM_PLAIN);
}

static inline size_t norm_round_up(size_t bytes) { return (bytes + NORM_ACCESS - 1) / NORM_ACCESS * NORM_ACCESS; }

static inline size_t norm_slab(const norm_cut *u, const norm_want *w)
{
    return norm_round_up(u->range * w->element * (size_t)u->pixels) + NORM_ACCESS;
}

/* Bytes of shared memory beside the slab, see norm_memory. */
static inline size_t norm_overhead(const norm_cut *u)
{
    const size_t wide = u->range > u->threads ? u->range : u->threads;
    return (2 * ((size_t)u->range + (size_t)u->groups) + wide) * sizeof(double) +
           (size_t)u->threads * u->vector * sizeof(float);
}

/* Sets the narrowest range of whole groups and whole vectors with at least `bytes` bytes per pixel. */
static inline void norm_cut_range(norm_cut *u, const norm_act_args *a, int bytes, bool aligned)
{
    const int c = a->c1 + a->c2, size = norm_storage_bytes(a), per_group = c / a->groups;
    int step = per_group;
    u->vector = (int)NORM_ACCESS / size;
    while (step % u->vector) step += per_group;
    if (!aligned || a->c1 % u->vector || a->c2 % u->vector || step > NORM_ACT_GROUP_MAX)
        u->vector = 1, step = per_group;
    u->range = (bytes / size + step - 1) / step * step;
    if (u->range > c) u->range = c;
    u->ranges = (c + u->range - 1) / u->range;
    u->groups = u->range / per_group;
}

/* With a slab, enough threads for 512 per multiprocessor, with at most 32 accesses per thread and tensor; without, 32 to
 * 64 accesses. */
static inline void norm_cut_threads(norm_cut *u, size_t limit)
{
    const int64_t columns = u->range / u->vector, accesses = columns * u->pixels;
    const int most = u->vector == 1 ? NORM_THREADS_SCALAR : NORM_THREADS;
    const int usual = u->slab || u->vector == 1 ? NORM_THREADS : NORM_CHUNK_THREADS;
    u->threads = accesses < 256 || !u->slab ? 64 : 128;
    while (u->threads < usual && 2 * u->threads <= accesses &&
           (u->slab ? 32 * u->threads < accesses || u->threads * (limit / u->slab) < 512 : 64 * u->threads <= accesses))
        u->threads *= 2;
    while (u->threads < columns && u->threads < most) u->threads *= 2;
}

/* True if a slab of u->pixels pixels fits; sets threads, slab and shared. */
static inline bool norm_cut_fits(norm_cut *u, const norm_want *w, size_t budget)
{
    u->slab = norm_slab(u, w);
    norm_cut_threads(u, w->shared);
    u->shared = u->slab + norm_overhead(u);
    return u->shared <= budget;
}

/* Bytes of shared memory with which two blocks fit on a multiprocessor. */
static inline size_t norm_half(const norm_want *w)
{
    const size_t two = (w->shared - NORM_BLOCK_RESERVE) / 2;
    return two < w->shared ? two : 0;
}

/* Splits images into chunks of at most norm_act_chunk() pixels. */
static inline bool norm_cut_chunks(norm_cut *u, const norm_act_args *a, const norm_want *w)
{
    const int chunk = norm_act_chunk(a->hw), few = 64;
    norm_cut_range(u, a, 64, w->aligned);
    u->pixels = chunk < a->hw ? chunk : a->hw;
    u->slab = 0;
    if (!w->chunk_slab) {
        norm_cut_threads(u, w->shared);
        u->shared = norm_overhead(u);
    } else
        while (!norm_cut_fits(u, w, u->pixels > few ? norm_half(w) : w->shared) && u->pixels > 1)
            u->pixels = (u->pixels + 1) / 2;
    u->chunks = (int)(((int64_t)a->hw + u->pixels - 1) / u->pixels);
    return u->shared <= w->shared;
}

/* Divides the ranges of a few images among more blocks.  A channel keeps its rows of threads, and so the order of its
 * sums: the result for an image is the same in every batch. */
static inline void norm_cut_spread(norm_cut *u, const norm_act_args *a, const norm_want *w)
{
    const int c = a->c1 + a->c2, per_group = c / a->groups, small = 256; /* pixels: more are read 32 bytes at a time */
    while ((double)a->n * u->chunks * u->ranges < NORM_BLOCKS && c % u->range == 0 && u->groups % 2 == 0 &&
           u->range / 2 % u->vector == 0 && u->threads / 2 >= NORM_WARP &&
           (u->pixels <= small || u->range / 2 * norm_storage_bytes(a) >= 32)) {
        u->groups /= 2, u->ranges *= 2, u->threads /= 2;
        u->range = u->groups * per_group;
        if (u->slab) u->slab = norm_slab(u, w);
        u->shared = u->slab + norm_overhead(u);
    }
}

/* False if no block can compute the shape.  Only norm_cut_spread() depends on n.  Two blocks per multiprocessor, one
 * loading while the other computes, have priority over 64 bytes per pixel (with 32, the neighbouring range reads the
 * other half of the 64 bytes at the same time) and over reading global memory once. */
static inline bool norm_cut_make(norm_cut *u, const norm_act_args *a, const norm_want *w)
{
    bool fits = false;
    u->chunks = 1, u->pixels = a->hw;
    for (int bytes = 64; bytes >= 32 && !fits; bytes /= 2) {
        norm_cut_range(u, a, bytes, w->aligned);
        fits = norm_cut_fits(u, w, norm_half(w));
    }
    if (!fits && !norm_cut_chunks(u, a, w)) return false;
    norm_cut_spread(u, a, w);
    return true;
}

/* Blocks of a launch with one for every (image, chunk, range); 0: more than a grid can have. */
static inline unsigned norm_blocks(const norm_act_args *a, const norm_cut *u)
{
    const double blocks = (double)a->n * u->chunks * u->ranges;
    return blocks <= INT_MAX ? (unsigned)(a->n * u->chunks * u->ranges) : 0u;
}

/* ---- the part of one block ---- */

typedef struct norm_tile {
    int image, chunk;
    int from, width;   /* channels from .. from + width - 1 */
    int first, pixels; /* pixels first .. first + pixels - 1 */
    int channel;       /* first channel of this thread in the range */
    int row, rows;     /* this thread computes the pixels row, row + rows, ... of the tile */
    bool active;       /* false: the thread has no pixel, since the last row of threads is incomplete */
} norm_tile;

/* Blocks with consecutive numbers have consecutive ranges: they run at the same time and share cache lines. */
template <int E> __device__ __forceinline__ norm_tile norm_tile_of(const norm_act_args &a, const norm_cut &u)
{
    const int c = a.c1 + a.c2, b = (int)blockIdx.x, tid = (int)threadIdx.x, range = b % u.ranges;
    norm_tile t;
    t.chunk = b / u.ranges % u.chunks;
    t.image = b / u.ranges / u.chunks;
    t.from = range * u.range;
    t.width = norm_least(u.range, c - t.from);
    t.first = t.chunk * u.pixels;
    t.pixels = norm_least(u.pixels, a.hw - t.first);
    const int columns = t.width / E;
    t.rows = (int)blockDim.x / columns;
    t.channel = tid % columns * E;
    t.active = tid / columns < t.rows;
    t.row = t.active ? tid / columns : t.pixels;
    return t;
}

/* This thread's vector at the tile's first pixel, in one of two tensors; pixel i is i * ld elements further. */
template <class T> struct norm_run {
    T *at; /* NULL if the tensor is */
    int64_t ld;
    __device__ __forceinline__ T *pixel(int i) const { return at + i * ld; }
};

template <class T, class V>
__device__ __forceinline__ norm_run<T> norm_run_of(const norm_act_args &a, const norm_tile &t, V *x, V *x2)
{
    const int c = t.from + t.channel, second = c >= a.c1;
    T *base = static_cast<T *>(second ? x2 : x);
    norm_run<T> r = {nullptr, second ? a.c2 : a.c1};
    if (base) r.at = base + ((int64_t)t.image * a.hw + t.first) * r.ld + (second ? c - a.c1 : c);
    return r;
}

/* The same in a tensor of all channels. */
template <class T, class V>
__device__ __forceinline__ norm_run<T> norm_run_joined(const norm_act_args &a, const norm_tile &t, V *y)
{
    const int64_t c = a.c1 + a.c2;
    const norm_run<T> r = {static_cast<T *>(y) + ((int64_t)t.image * a.hw + t.first) * c + t.from + t.channel, c};
    return r;
}

/* v = p[0 .. E - 1], wherever p points: in one access if it is aligned. */
template <int E, class T> __device__ __forceinline__ void norm_get_floats(float *v, const T *p)
{
    if (E > 1 && (uintptr_t)p % alignof(norm_words<T, E>) == 0)
        norm_floats<E>(v, norm_get<E>(p));
    else
        for (int e = 0; e < E; e++) v[e] = norm_widen(p[e]);
}

/* The affine maps of E channels of an image, and the addend of x before them. */
template <int E> struct norm_channels {
    float addend[E], up[E], gain[E], shift[E]; /* up = 1 + s, gain = gamma up */
};

template <class T, int E>
__device__ __forceinline__ norm_channels<E> norm_channels_of(const norm_act_args &a, int image, int c)
{
    const T *cond = static_cast<const T *>(a.cond) + (a.cond ? image * a.cond_ld + c : 0);
    norm_channels<E> k;
    float first[E], second[E];
    norm_get_floats<E>(k.gain, a.gamma + c);
    norm_get_floats<E>(k.shift, a.beta + c);
    for (int e = 0; e < E; e++) first[e] = second[e] = 0.0f;
    if (a.kind != NORM_PLAIN) norm_get_floats<E>(first, cond);
    if (a.kind == NORM_SCALE_SHIFT) norm_get_floats<E>(second, cond + a.c1 + a.c2);
    for (int e = 0; e < E; e++) {
        k.addend[e] = a.kind == NORM_ADD ? first[e] : 0.0f;
        k.up[e] = a.kind == NORM_SCALE_SHIFT ? 1.0f + first[e] : 1.0f;
        k.gain[e] *= k.up[e];
        k.shift[e] = k.shift[e] * k.up[e] + second[e];
    }
    return k;
}

/* group[e] = (channel + e) / per_group: one division, since an integer division takes some twenty instructions. */
template <int E> __device__ __forceinline__ void norm_groups(int channel, int per_group, int *group)
{
    int g = channel / per_group, left = (g + 1) * per_group - channel;
    for (int e = 0; e < E; e++) {
        group[e] = g;
        if (--left == 0) g++, left = per_group;
    }
}

/* The mask of dropout for the pixels of a thread.  Kernels are compiled with and without (DROP), since the mask needs
 * registers. */
template <bool DROP> struct norm_dropout {
    const norm_act_args &a; /* the kernel's arguments, which take no registers */
    uint32_t seed[2];
    uint64_t ordinal;
    uint32_t at; /* the first element of the thread's vector at the tile's first pixel, in the image */
};

template <bool DROP>
__device__ __forceinline__ norm_dropout<DROP> norm_dropout_of(const norm_act_args &a, const norm_tile &t)
{
    norm_dropout<DROP> d = {a, {0, 0}, 0, 0};
    if (!DROP) return d;
    d.seed[0] = (uint32_t)a.dropout.state->seed, d.seed[1] = (uint32_t)(a.dropout.state->seed >> 32);
    d.ordinal = a.dropout.state->sample + (uint64_t)t.image;
    d.at = (uint32_t)t.first * (uint32_t)(a.c1 + a.c2) + (uint32_t)(t.from + t.channel);
    return d;
}

/* v = dropout(v) for the E elements of pixel i of the tile.  A vector of several elements lies within one octet. */
template <int E, bool DROP> __device__ __forceinline__ void norm_drop(const norm_dropout<DROP> &d, int i, float *v)
{
    if (!DROP) return;
    const dropout_mask &mask = d.a.dropout;
    const uint32_t element = d.at + (uint32_t)i * (uint32_t)(d.a.c1 + d.a.c2), least = mask.threshold << 16;
    uint32_t low = d.seed[0], high = d.seed[1];
#ifdef __CUDA_ARCH__
    asm volatile("" : "+r"(low), "+r"(high)); /* or nvcc keeps the 18 further keys of Philox in registers */
#endif
    const philox4 r = dropout_draw((uint64_t)high << 32 | low, mask.layer, d.ordinal, element / DROPOUT_OCTET);
    for (int e = 0; e < E; e++) { /* the 16 bits of an element, moved to the high half, are compared with `least` */
        const uint32_t place = E == DROPOUT_OCTET ? (uint32_t)e : element % DROPOUT_OCTET + (uint32_t)e;
        uint32_t word = r.v[e % 4];
        if (E == 1)
            for (uint32_t k = 1; k < 4; k++) word = place % 4 == k ? r.v[k] : word;
        v[e] = (place < 4 ? word << 16 : word) >= least ? mask.scale * v[e] : 0.0f;
    }
}

/* Dynamic shared memory, in this order. */
typedef struct norm_memory {
    unsigned char *slab;
    double *total[2]; /* [range] */
    double *group[2]; /* [groups] */
    double *part;     /* [max(range, threads)] */
    float *partial;   /* [threads * E] >= [rows, width] */
} norm_memory;

static __device__ __forceinline__ norm_memory norm_carve(unsigned char *memory, const norm_cut &u)
{
    norm_memory m;
    double *at = reinterpret_cast<double *>(memory + u.slab);
    m.slab = memory;
    for (int k = 0; k < 2; k++, at += u.range) m.total[k] = at;
    for (int k = 0; k < 2; k++, at += u.groups) m.group[k] = at;
    m.part = at;
    m.partial = reinterpret_cast<float *>(at + norm_most(u.range, (int)blockDim.x));
    return m;
}

/* total[width] = sum[E] over all threads: first strided groups of rows, then their sums. */
template <int E>
__device__ __forceinline__ void norm_totals(const norm_tile &t, const norm_memory &m, const float *sum, double *total)
{
    const int threads = (int)blockDim.x, parts = norm_most(threads / t.width, 1);
    if (t.active) norm_put_floats<E>(m.partial + t.row * t.width + t.channel, sum);
    __syncthreads();
    UNROLL(1)
    for (int k = (int)threadIdx.x; k < parts * t.width; k += threads) {
        double part = 0.0;
        UNROLL(4)
        for (int row = k / t.width; row < t.rows; row += parts) part += m.partial[row * t.width + k % t.width];
        m.part[k] = part;
    }
    __syncthreads();
    UNROLL(1)
    for (int c = (int)threadIdx.x; c < t.width; c += threads) {
        double sum_of_parts = 0.0;
        UNROLL(4)
        for (int p = 0; p < parts; p++) sum_of_parts += m.part[p * t.width + c];
        total[c] = sum_of_parts;
    }
    __syncthreads();
}

/* The sum over a warp, in every lane with the same bits, since a + b and b + a are equal. */
static __device__ __forceinline__ double norm_warp_sum(double v)
{
    for (int bit = NORM_WARP / 2; bit > 0; bit /= 2) v += __shfl_xor_sync(~0u, v, bit);
    return v;
}

/* group[g] = sum of of(c) over the channels c of group g of the range; one warp per group. */
template <class F>
__device__ __forceinline__ void norm_group_sums(const norm_tile &t, int per_group, double *group, F of)
{
    const int lane = (int)threadIdx.x % NORM_WARP, warps = (int)blockDim.x / NORM_WARP;
    for (int g = (int)threadIdx.x / NORM_WARP; g < t.width / per_group; g += warps) {
        double sum = 0.0;
        UNROLL(1)
        for (int c = lane; c < per_group; c += NORM_WARP) sum += of(g * per_group + c);
        sum = norm_warp_sum(sum);
        if (lane == 0) group[g] = sum;
    }
    __syncthreads();
}

#endif
