#include "norm_act.cuh"

/* For the E channels of a thread: v = x + center, z = v slope + shift. */
template <int E> struct norm_map {
    float center[E], slope[E], shift[E];
};

/* Calls use(i, v) for every pixel i of the thread and its vector v, with BATCH loads in flight at a time. */
template <int E, int BATCH, class T, class F>
__device__ __forceinline__ void each_pixel(const norm_tile &t, const norm_run<const T> &from, F use)
{
    for (int i = t.row; i < t.pixels; i += BATCH * t.rows) {
        norm_words<T, E> in[BATCH] = {};
        UNROLL()
        for (int k = 0; k < BATCH; k++)
            if (i + k * t.rows < t.pixels) in[k] = norm_get<E>(from.pixel(i + k * t.rows));
        UNROLL()
        for (int k = 0; k < BATCH; k++)
            if (i + k * t.rows < t.pixels) use(i + k * t.rows, in[k]);
    }
}

/* Loads this thread's part of the tile into the slab [pixels, width] and sums it. */
template <class T, int E>
__device__ __forceinline__ void load_slab(const norm_act_args &a, const norm_tile &t, T *slab, float *sum)
{
    const norm_run<const T> x = norm_run_of<const T>(a, t, a.x, a.x2);
    for (int e = 0; e < E; e++) sum[e] = 0.0f;
    each_pixel<E, E == 1 ? 2 : NORM_BATCH>(t, x, [&](int i, const norm_words<T, E> &in) {
        float v[E];
        norm_floats<E>(v, in);
        norm_put(slab + i * t.width + t.channel, in);
        for (int e = 0; e < E; e++) sum[e] += v[e];
    });
}

/* Fills the slab; m.group[0] = mean and m.group[1] = sum of (v - mean)^2 of the tile's part of each group.  Two
 * passes, the second over the slab, avoid the cancellation of subtracting large squares. */
template <class T, int E>
__device__ __forceinline__ void slab_statistics(const norm_act_args &a, const norm_tile &t, const norm_memory &m,
                                                norm_map<E> *map)
{
    const int per_group = (a.c1 + a.c2) / a.groups;
    const double pixels = t.pixels, count = pixels * per_group;
    const T *cond = static_cast<const T *>(a.cond), *addend = nullptr;
    T *slab = reinterpret_cast<T *>(m.slab);
    float sum[E];
    if (a.kind == NORM_ADD) addend = cond + t.image * a.cond_ld + t.from;
    load_slab<T, E>(a, t, slab, sum);
    norm_totals<E>(t, m, sum, m.total[0]);
    norm_group_sums(t, per_group, m.group[0], [&](int c) {
        const double shifted = addend ? pixels * norm_widen(addend[c]) : 0.0;
        return (m.total[0][c] + shifted) / count;
    });
    int group[E];
    norm_groups<E>(t.channel, per_group, group);
    for (int e = 0; e < E; e++) map->center[e] = sum[e] = 0.0f;
    if (addend) norm_get_floats<E>(map->center, addend + t.channel);
    for (int e = 0; e < E; e++) map->center[e] -= (float)m.group[0][group[e]];
    const norm_run<const T> own = {slab + t.channel, t.width};
    each_pixel<E, E == 1 ? 1 : NORM_BATCH>(t, own, [&](int, const norm_words<T, E> &in) {
        float x[E];
        norm_floats<E>(x, in);
        for (int e = 0; e < E; e++) {
            const float v = x[e] + map->center[e];
            sum[e] = fmaf(v, v, sum[e]);
        }
    });
    norm_totals<E>(t, m, sum, m.total[0]);
    norm_group_sums(t, per_group, m.group[1], [&](int c) { return m.total[0][c]; });
}

template <int BATCH, bool DROP, class T, int E>
__device__ __forceinline__ void write_y(const norm_act_args &a, const norm_tile &t, const norm_run<const T> &from,
                                        const norm_map<E> &map)
{
    const norm_run<T> y = norm_run_joined<T>(a, t, a.y);
    const norm_dropout<DROP> drop = norm_dropout_of<DROP>(a, t);
    each_pixel<E, BATCH>(t, from, [&](int i, const norm_words<T, E> &in) {
        norm_pack<T, E> out;
        float x[E], z[E];
        norm_floats<E>(x, in);
        for (int e = 0; e < E; e++) z[e] = fmaf(x[e] + map.center[e], map.slope[e], map.shift[e]);
        if (a.silu)
            for (int e = 0; e < E; e++) z[e] *= norm_sigmoid_as<T>(z[e]);
        norm_drop<E>(drop, i, z);
        for (int e = 0; e < E; e++) norm_narrow(z[e], &out.v[e]);
        norm_put(y.pixel(i), out);
    });
}

HD float norm_rstd(double variance, float eps) { return (float)(1.0 / sqrt(variance + (double)eps)); }

/* Block (image, range): the whole computation, x read once. */
template <class T, int E, bool DROP>
__global__ void __launch_bounds__(E == 1 ? NORM_THREADS_SCALAR : NORM_THREADS, 1)
    norm_act_slab_kernel(norm_act_args a, norm_cut cut)
{
    SHARED_DYNAMIC(unsigned char, memory);
    const norm_tile t = norm_tile_of<E>(a, cut);
    const norm_memory m = norm_carve(memory, cut);
    const int per_group = (a.c1 + a.c2) / a.groups;
    const double count = (double)a.hw * per_group;
    norm_map<E> map;
    slab_statistics<T, E>(a, t, m, &map);
    for (int g = (int)threadIdx.x; g < t.width / per_group; g += (int)blockDim.x) {
        const int64_t to = (int64_t)t.image * a.groups + t.from / per_group + g;
        const float rstd = norm_rstd(m.group[1][g] / count, a.eps);
        a.mean[to] = (float)m.group[0][g];
        a.rstd[to] = rstd;
        m.group[1][g] = rstd;
    }
    __syncthreads();
    const norm_channels<E> k = norm_channels_of<T, E>(a, t.image, t.from + t.channel);
    int group[E];
    norm_groups<E>(t.channel, per_group, group);
    for (int e = 0; e < E; e++) {
        map.slope[e] = k.gain[e] * (float)m.group[1][group[e]];
        map.shift[e] = k.shift[e];
    }
    const norm_run<const T> own = {reinterpret_cast<const T *>(m.slab) + t.channel, t.width};
    write_y<E == 1 || DROP ? 1 : 2, DROP, T, E>(a, t, own, map);
}

/* ---- images in chunks ---- */

/* Moments of a group within one chunk.  Before y is written, its memory holds [n, groups, chunks] of them. */
typedef struct chunk_moments {
    float mean, squares; /* sum of (v - mean)^2 */
} chunk_moments;

/* Block (image, chunk, range). */
template <class T, int E>
__global__ void __launch_bounds__(E == 1 ? NORM_THREADS_SCALAR : NORM_THREADS, 1)
    norm_act_moments_kernel(norm_act_args a, norm_cut cut, chunk_moments *moments)
{
    SHARED_DYNAMIC(unsigned char, memory);
    const norm_tile t = norm_tile_of<E>(a, cut);
    const norm_memory m = norm_carve(memory, cut);
    const int per_group = (a.c1 + a.c2) / a.groups;
    norm_map<E> map;
    slab_statistics<T, E>(a, t, m, &map);
    for (int g = (int)threadIdx.x; g < t.width / per_group; g += (int)blockDim.x) {
        const int64_t group = (int64_t)t.image * a.groups + t.from / per_group + g;
        const chunk_moments out = {(float)m.group[0][g], (float)m.group[1][g]};
        moments[group * cut.chunks + t.chunk] = out;
    }
}

/* Combines the moments of chunks, one warp per group: Chan, Golub & LeVeque 1983, "Algorithms for computing the
 * sample variance", eq. 2.1. */
__global__ void __launch_bounds__(NORM_THREADS)
    norm_act_join_kernel(norm_act_args a, norm_cut cut, const chunk_moments *moments)
{
    const int64_t group = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) / NORM_WARP;
    const int lane = (int)threadIdx.x % NORM_WARP;
    if (group >= (int64_t)a.n * a.groups) return; /* uniform over a warp */
    const chunk_moments *of = moments + group * cut.chunks;
    double sum = 0.0, squares = 0.0;
    for (int k = lane; k < cut.chunks; k += NORM_WARP)
        sum += (double)of[k].mean * norm_least(cut.pixels, a.hw - k * cut.pixels);
    const double mean = norm_warp_sum(sum) / a.hw;
    for (int k = lane; k < cut.chunks; k += NORM_WARP) {
        const double off = (double)of[k].mean - mean, per_group = (a.c1 + a.c2) / a.groups;
        squares += of[k].squares + off * off * (per_group * norm_least(cut.pixels, a.hw - k * cut.pixels));
    }
    squares = norm_warp_sum(squares);
    if (lane > 0) return;
    a.mean[group] = (float)mean;
    a.rstd[group] = norm_rstd(squares / ((double)a.hw * ((a.c1 + a.c2) / a.groups)), a.eps);
}

/* Block (image, chunk, range). */
template <class T, int E, bool DROP>
__global__ void __launch_bounds__(E == 1 ? NORM_THREADS_SCALAR : NORM_THREADS, 1)
    norm_act_apply_kernel(norm_act_args a, norm_cut cut)
{
    const norm_tile t = norm_tile_of<E>(a, cut);
    const norm_run<const T> x = norm_run_of<const T>(a, t, a.x, a.x2);
    const int per_group = (a.c1 + a.c2) / a.groups;
    const float *mean = a.mean + (int64_t)t.image * a.groups, *rstd = a.rstd + (int64_t)t.image * a.groups;
    const norm_channels<E> k = norm_channels_of<T, E>(a, t.image, t.from + t.channel);
    norm_map<E> map;
    int group[E];
    norm_groups<E>(t.from + t.channel, per_group, group);
    for (int e = 0; e < E; e++) {
        map.center[e] = k.addend[e] - mean[group[e]];
        map.slope[e] = k.gain[e] * rstd[group[e]];
        map.shift[e] = k.shift[e];
    }
    write_y<DROP ? 1 : 2, DROP, T, E>(a, t, x, map);
}

/* ---- launches ---- */

template <class T, int E, bool DROP>
static ddpm_status launch_chunks(cudaStream_t stream, const norm_act_args &a, const norm_cut &cut)
{
    const int64_t groups = (int64_t)a.n * a.groups, groups_a_block = NORM_THREADS / NORM_WARP;
    const uintptr_t room = (uintptr_t)a.y, first = (room + alignof(float) - 1) / alignof(float) * alignof(float);
    const size_t bytes = (size_t)a.n * a.hw * (a.c1 + a.c2) * sizeof(T),
                 taken = groups * cut.chunks * sizeof(chunk_moments);
    if (first - room + taken > bytes) return DDPM_EINVAL; /* chunks of one or two pixels: no real device needs them */
    chunk_moments *moments = reinterpret_cast<chunk_moments *>(first);
    const unsigned blocks = norm_blocks(&a, &cut), joins = (unsigned)((groups + groups_a_block - 1) / groups_a_block);
    SHARED_LIMIT((norm_act_moments_kernel<T, E>), shared_most());
    LAUNCH((norm_act_moments_kernel<T, E>), dim3(blocks), cut.threads, cut.shared, stream, a, cut, moments);
    LAUNCH(norm_act_join_kernel, dim3(joins), NORM_THREADS, 0, stream, a, cut, moments);
    LAUNCH((norm_act_apply_kernel<T, E, DROP>), dim3(blocks), cut.threads, 0, stream, a, cut);
    return launch_status();
}

template <class T, int E, bool DROP> static ddpm_status launch_as(void *to, const norm_act_args &a, const norm_cut &cut)
{
    const cudaStream_t stream = (cudaStream_t)to;
    if (cut.chunks > 1) return launch_chunks<T, E, DROP>(stream, a, cut);
    SHARED_LIMIT((norm_act_slab_kernel<T, E, DROP>), shared_most());
    LAUNCH((norm_act_slab_kernel<T, E, DROP>), dim3(norm_blocks(&a, &cut)), cut.threads, cut.shared, stream, a, cut);
    return launch_status();
}

template <class T, int E> static ddpm_status launch(void *to, const norm_act_args &a, const norm_cut &cut)
{
    return a.dropout.state ? launch_as<T, E, true>(to, a, cut) : launch_as<T, E, false>(to, a, cut);
}

ddpm_status k_norm_act_within(void *stream, const norm_act_args *a, size_t shared)
{
    const bool aligned = norm_is_aligned(a->x) && norm_is_aligned(a->x2) && norm_is_aligned(a->y);
    const norm_want want = {(size_t)norm_storage_bytes(a), shared, aligned, true};
    norm_cut cut;
    if (!norm_shape_is_sound(a) || !norm_cut_make(&cut, a, &want) || norm_blocks(a, &cut) == 0) return DDPM_EINVAL;
    if (a->type == STORE_F32)
        return cut.vector == 1 ? launch<float, 1>(stream, *a, cut) : launch<float, 4>(stream, *a, cut);
    return cut.vector == 1 ? launch<bf16, 1>(stream, *a, cut) : launch<bf16, 8>(stream, *a, cut);
}

ddpm_status k_norm_act(void *stream, const norm_act_args *a) { return k_norm_act_within(stream, a, shared_most()); }
