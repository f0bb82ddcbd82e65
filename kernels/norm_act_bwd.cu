/* norm_act_bwd.cu - the gradient of norm_act.h: two passes over a slab, or over chunks of each image. */
#include "norm_act.cuh"

/* Indices of the sums of a chunk in scratch. */
enum { CHUNK_S1, CHUNK_S2, CHUNK_SUMS, CHUNK_DX = CHUNK_S1, CHUNK_TOTAL = CHUNK_S2 };

HD float *image_sum(const norm_act_bwd_args &a, int image, int which, int c)
{
    return a.sums + ((int64_t)image * NORM_SUMS + which) * (a.f.c1 + a.f.c2) + c;
}

HD float *chunk_sum(const norm_act_bwd_args &a, const norm_cut &u, int image, int chunk, int which, int c)
{
    const int64_t all = a.f.c1 + a.f.c2, row = ((int64_t)image * u.chunks + chunk) * CHUNK_SUMS + which;
    return a.scratch + row * all + c;
}

/* For each channel of a thread: v = x + center, z = v slope + shift, and once the sums are known
 * d(v) = dz slope - at_0 - v of_v.  dz slope is rounded before at_0, a mean of such products, is subtracted: in a
 * group of one value both are the same number and the difference is exactly 0. */
template <int E> struct bwd_map {
    float center[E], slope[E], shift[E], at_0[E], of_v[E];
};

/* Computes v and dz from the elements of pixel i of the tile. */
template <bool DROP, class T, int E>
__device__ __forceinline__ void find_dz(const norm_words<T, E> &x, const norm_words<T, E> &dy, const bwd_map<E> &map,
                                        const norm_dropout<DROP> &drop, int i, int silu, float *v, float *dz)
{
    norm_floats<E>(v, x);
    norm_floats<E>(dz, dy);
    for (int e = 0; e < E; e++) v[e] += map.center[e];
    norm_drop<E>(drop, i, dz);
    if (silu)
        for (int e = 0; e < E; e++) {
            const float z = fmaf(v[e], map.slope[e], map.shift[e]);
            dz[e] *= norm_silu_slope(z, norm_sigmoid_as<T>(z));
        }
}

template <class T, int E>
__device__ __forceinline__ void find_map(const norm_act_args &f, const norm_tile &t, bwd_map<E> *map)
{
    const float *mean = f.mean + (int64_t)t.image * f.groups, *rstd = f.rstd + (int64_t)t.image * f.groups;
    const norm_channels<E> k = norm_channels_of<T, E>(f, t.image, t.from + t.channel);
    int group[E];
    norm_groups<E>(t.from + t.channel, (f.c1 + f.c2) / f.groups, group);
    for (int e = 0; e < E; e++) {
        map->center[e] = k.addend[e] - mean[group[e]];
        map->slope[e] = k.gain[e] * rstd[group[e]];
        map->shift[e] = k.shift[e];
    }
}

/* Adds the group means to the map; m1, m2: means over each group of the range of slope dz and of slope dz xhat. */
template <int E>
__device__ __forceinline__ void add_means(const norm_act_args &f, const norm_tile &t, const double *m1,
                                          const double *m2, bwd_map<E> *map)
{
    const int per_group = (f.c1 + f.c2) / f.groups;
    const float *rstd = f.rstd + (int64_t)t.image * f.groups + t.from / per_group;
    int group[E];
    norm_groups<E>(t.channel, per_group, group);
    for (int e = 0; e < E; e++) {
        map->at_0[e] = (float)m1[group[e]];
        map->of_v[e] = (float)m2[group[e]] * rstd[group[e]];
    }
}

/* A tile's part of the slab: x and dz, since recomputing dz takes an exponential.  In bf16 dz is rounded, for the sums
 * and the second pass alike, as where SiLU's gradient is a tensor of its own. */
template <class T> struct bwd_slab {
    T *x;  /* [pixels, width]  NULL: no slab */
    T *dz; /* [pixels, width] */
};

template <class T> __device__ __forceinline__ bwd_slab<T> slab_of(const norm_cut &u, unsigned char *memory)
{
    T *x = reinterpret_cast<T *>(memory);
    const bwd_slab<T> s = {x, x + u.range * u.pixels};
    return s;
}

/* x and dy of a thread's next pixel.  AHEAD: it is loaded while other work goes on. */
template <class T, int E, bool AHEAD> struct bwd_inputs {
    norm_run<const T> x, dy;
    norm_words<T, E> next_x, next_dy;
    __device__ __forceinline__ bwd_inputs(const norm_act_bwd_args &a, const norm_tile &t)
        : x(norm_run_of<const T>(a.f, t, a.f.x, a.f.x2)), dy(norm_run_joined<const T>(a.f, t, a.dy)), next_x(),
          next_dy()
    {
        if (AHEAD) load(t, t.row);
    }
    __device__ __forceinline__ void load(const norm_tile &t, int pixel)
    {
        if (pixel >= t.pixels) return;
        next_x = norm_get<E>(x.pixel(pixel));
        next_dy = norm_get<E>(dy.pixel(pixel));
    }
};

/* First pass over the tile: s1 = sum dz, s2 = sum dz v of this thread; fills the slab if there is one. */
template <class T, int E, bool SLAB, bool DROP>
__device__ __forceinline__ void sum_dz(const norm_act_bwd_args &a, const norm_tile &t, const bwd_slab<T> &slab,
                                       float *s1, float *s2)
{
    bwd_inputs<T, E, (E > 1)> in(a, t);
    const norm_dropout<DROP> drop = norm_dropout_of<DROP>(a.f, t);
    bwd_map<E> map;
    find_map<T, E>(a.f, t, &map);
    for (int e = 0; e < E; e++) s1[e] = s2[e] = 0.0f;
    UNROLL(1)
    for (int pixel = t.row; pixel < t.pixels; pixel += t.rows) {
        if (E == 1) in.load(t, pixel);
        const norm_words<T, E> x = in.next_x, dy = in.next_dy;
        float v[E], dz[E];
        if (E > 1) in.load(t, pixel + t.rows);
        find_dz(x, dy, map, drop, pixel, a.f.silu, v, dz);
        if (SLAB) {
            norm_pack<T, E> out;
            for (int e = 0; e < E; e++) {
                norm_narrow(dz[e], &out.v[e]);
                dz[e] = norm_widen(out.v[e]); /* the sums of what the second pass reads */
            }
            norm_put(slab.x + pixel * t.width + t.channel, x);
            norm_put(slab.dz + pixel * t.width + t.channel, out);
        }
        for (int e = 0; e < E; e++) s1[e] += dz[e], s2[e] = fmaf(dz[e], v[e], s2[e]);
    }
}

/* Writes d(v) of a thread and sums it over the pixels. */
template <class T, int E> struct dx_sink {
    norm_run<T> to;        /* NULL: not needed */
    bool add;              /* accumulate into `to` */
    float dx[E], total[E]; /* sums of d(v); sums of the final values of `to`, also if it is NULL */
};

template <class T, int E>
__device__ __forceinline__ void open_sink(const norm_act_bwd_args &a, const norm_tile &t, dx_sink<T, E> *s)
{
    s->to = norm_run_of<T>(a.f, t, a.dx, a.dx2);
    s->add = s->to.at && (t.from + t.channel < a.f.c1 ? a.add : a.add2);
    for (int e = 0; e < E; e++) s->dx[e] = s->total[e] = 0.0f;
}

template <class T, int E>
__device__ __forceinline__ void take_dx(dx_sink<T, E> *s, int pixel, const bwd_map<E> &map, const float *v,
                                        const float *dz, const norm_words<T, E> &old_words)
{
    norm_pack<T, E> out;
    float old[E];
    norm_floats<E>(old, old_words);
    for (int e = 0; e < E; e++) {
        const float dx = fmaf(-v[e], map.of_v[e], dz[e] * map.slope[e] - map.at_0[e]);
        const float total = s->add ? old[e] + dx : dx;
        s->dx[e] += dx;
        s->total[e] += total;
        norm_narrow(total, &out.v[e]);
    }
    if (s->to.at) norm_put(s->to.pixel(pixel), out);
}

/* Second pass, reading the slab. */
template <class T, int E>
__device__ __forceinline__ void write_dx_from_slab(const norm_tile &t, const bwd_slab<T> &slab, const bwd_map<E> &map,
                                                   dx_sink<T, E> *s)
{
    constexpr int BATCH = E == 1 ? 1 : 2;
    UNROLL(1)
    for (int i = t.row; i < t.pixels; i += BATCH * t.rows) {
        norm_words<T, E> old[BATCH] = {};
        UNROLL()
        for (int k = 0; k < BATCH; k++)
            if (s->add && i + k * t.rows < t.pixels) old[k] = norm_get<E>(s->to.pixel(i + k * t.rows));
        UNROLL()
        for (int k = 0; k < BATCH; k++) {
            const int pixel = i + k * t.rows, place = pixel * t.width + t.channel;
            if (pixel >= t.pixels) continue;
            float v[E], dz[E];
            norm_floats<E>(v, norm_get<E>(slab.x + place));
            norm_floats<E>(dz, norm_get<E>(slab.dz + place));
            for (int e = 0; e < E; e++) v[e] += map.center[e];
            take_dx(s, pixel, map, v, dz, old[k]);
        }
    }
}

/* Second pass, reading global memory. */
template <bool DROP, bool AHEAD, class T, int E>
__device__ __forceinline__ void write_dx_again(const norm_act_bwd_args &a, const norm_tile &t,
                                               bwd_inputs<T, E, AHEAD> *in, const bwd_map<E> &map, dx_sink<T, E> *s)
{
    const norm_dropout<DROP> drop = norm_dropout_of<DROP>(a.f, t);
    UNROLL(1)
    for (int pixel = t.row; pixel < t.pixels; pixel += t.rows) {
        norm_words<T, E> old = {};
        float v[E], dz[E];
        if (!AHEAD) in->load(t, pixel);
        if (s->add && AHEAD) old = norm_get<E>(s->to.pixel(pixel));
        find_dz(in->next_x, in->next_dy, map, drop, pixel, a.f.silu, v, dz);
        if (s->add && !AHEAD) old = norm_get<E>(s->to.pixel(pixel));
        take_dx(s, pixel, map, v, dz, old);
        if (AHEAD) in->load(t, pixel + t.rows); /* not earlier: there are no registers for two pixels */
    }
}

template <class T>
__device__ __forceinline__ void store_dcond(const norm_act_bwd_args &a, int image, int at, double value)
{
    T *to = static_cast<T *>(a.dcond) + image * a.dcond_ld + at;
    norm_narrow((a.add_dcond ? norm_widen(*to) : 0.0f) + (float)value, to);
}

/* Stores the sums s1, s2 of channel c of an image, and its part of dcond. */
template <class T>
__device__ __forceinline__ void finish_sums(const norm_act_bwd_args &a, int image, int c, double s1, double s2,
                                            double up)
{
    *image_sum(a, image, NORM_SUM_DBETA, c) = (float)(s1 * up);
    *image_sum(a, image, NORM_SUM_DGAMMA, c) = (float)(s2 * up);
    if (!a.dcond || a.f.kind != NORM_SCALE_SHIFT) return;
    store_dcond<T>(a, image, c, a.f.gamma[c] * s2 + a.f.beta[c] * s1);
    store_dcond<T>(a, image, a.f.c1 + a.f.c2 + c, s1);
}

HD bool wants_dcond_sums(const norm_act_bwd_args &a) { return a.dcond && a.f.kind == NORM_ADD; }
HD bool wants_dx(const norm_act_bwd_args &a) { return a.dx || a.dx2 || wants_dcond_sums(a) || a.sum_dx; }

/* Block (image, range): the whole computation for an image, x and dy read once. */
template <class T, int E, bool DROP>
__global__ void __launch_bounds__(E == 1 ? NORM_THREADS_SCALAR : NORM_THREADS, 1)
    norm_act_bwd_slab_kernel(norm_act_bwd_args a, norm_cut cut)
{
    SHARED_DYNAMIC(unsigned char, memory);
    const norm_tile t = norm_tile_of<E>(a.f, cut);
    const norm_memory m = norm_carve(memory, cut);
    const bwd_slab<T> slab = slab_of<T>(cut, m.slab);
    const int per_group = (a.f.c1 + a.f.c2) / a.f.groups;
    const double count = (double)a.f.hw * per_group;
    float s1[E], s2[E];
    sum_dz<T, E, true, DROP>(a, t, slab, s1, s2);
    norm_totals<E>(t, m, s1, m.total[0]);
    norm_totals<E>(t, m, s2, m.total[1]);
    UNROLL(1)
    for (int k = (int)threadIdx.x; k < t.width; k += (int)blockDim.x) {
        const int c = t.from + k;
        const norm_channels<1> of = norm_channels_of<T, 1>(a.f, t.image, c);
        const float rstd = a.f.rstd[(int64_t)t.image * a.f.groups + c / per_group], slope = of.gain[0] * rstd;
        const double sum1 = m.total[0][k], sum2 = m.total[1][k] * rstd;
        finish_sums<T>(a, t.image, c, sum1, sum2, of.up[0]);
        m.total[0][k] = sum1 * slope / count;
        m.total[1][k] = sum2 * slope / count;
    }
    if (!wants_dx(a)) return;
    __syncthreads();
    for (int k = 0; k < 2; k++) norm_group_sums(t, per_group, m.group[k], [&](int c) { return m.total[k][c]; });
    bwd_map<E> map;
    dx_sink<T, E> sink;
    find_map<T, E>(a.f, t, &map);
    add_means<E>(a.f, t, m.group[0], m.group[1], &map);
    open_sink<T, E>(a, t, &sink);
    write_dx_from_slab<T, E>(t, slab, map, &sink);
    if (wants_dcond_sums(a)) {
        norm_totals<E>(t, m, sink.dx, m.total[0]);
        for (int k = (int)threadIdx.x; k < t.width; k += (int)blockDim.x)
            store_dcond<T>(a, t.image, t.from + k, m.total[0][k]);
    }
    if (a.sum_dx) {
        norm_totals<E>(t, m, sink.total, m.total[1]);
        for (int k = (int)threadIdx.x; k < t.width; k += (int)blockDim.x)
            *image_sum(a, t.image, NORM_SUM_DX, t.from + k) = (float)m.total[1][k];
    }
}

/* ---- images in chunks ---- */

/* Stores the sums of all threads over the tile's pixels as sums `which` of the chunk. */
template <int E>
__device__ __forceinline__ void store_chunk_sums(const norm_act_bwd_args &a, const norm_cut &cut, const norm_tile &t,
                                                 const norm_memory &m, int which, const float *sum)
{
    norm_totals<E>(t, m, sum, m.total[0]);
    for (int k = (int)threadIdx.x; k < t.width; k += (int)blockDim.x)
        *chunk_sum(a, cut, t.image, t.chunk, which, t.from + k) = (float)m.total[0][k];
}

/* Block (image, chunk, range): S1, and S2 times the standard deviation. */
template <class T, int E, bool DROP>
__global__ void __launch_bounds__(E == 1 ? NORM_THREADS_SCALAR : NORM_CHUNK_THREADS, E == 1 ? 1 : 2)
    norm_act_bwd_sums_kernel(norm_act_bwd_args a, norm_cut cut)
{
    SHARED_DYNAMIC(unsigned char, memory);
    const norm_tile t = norm_tile_of<E>(a.f, cut);
    const norm_memory m = norm_carve(memory, cut);
    const bwd_slab<T> none = {nullptr, nullptr};
    float s1[E], s2[E];
    sum_dz<T, E, false, DROP>(a, t, none, s1, s2);
    store_chunk_sums<E>(a, cut, t, m, CHUNK_S1, s1);
    store_chunk_sums<E>(a, cut, t, m, CHUNK_S2, s2);
}

/* ptxas for compute capability 12.0 spills registers of the kernel with a mask if two blocks must fit. */
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1200
enum { FITS_TWICE = 0 };
#else
enum { FITS_TWICE = 1 };
#endif

/* Block (image, chunk, range): dx and its sums. */
template <class T, int E, bool DROP>
__global__ void __launch_bounds__(E == 1 ? NORM_THREADS_SCALAR : NORM_CHUNK_THREADS,
                                  E == 1 || (DROP && !FITS_TWICE) ? 1 : 2)
    norm_act_bwd_apply_kernel(norm_act_bwd_args a, norm_cut cut)
{
    SHARED_DYNAMIC(unsigned char, memory);
    const norm_tile t = norm_tile_of<E>(a.f, cut);
    const norm_memory m = norm_carve(memory, cut);
    const int per_group = (a.f.c1 + a.f.c2) / a.f.groups;
    const double count = (double)a.f.hw * per_group;
    bwd_inputs<T, E, (E > 1 && !DROP)> in(a, t); /* the mask, and large blocks, need the registers */
    for (int k = 0; k < 2; k++) {
        const float *sums = image_sum(a, t.image, k == 0 ? NORM_SUM_DBETA : NORM_SUM_DGAMMA, t.from),
                    *gamma = a.f.gamma + t.from;
        const float *rstd = a.f.rstd + (int64_t)t.image * a.f.groups + t.from / per_group;
        norm_group_sums(t, per_group, m.group[k],
                        [&](int c) { return (double)gamma[c] * rstd[c / per_group] * sums[c] / count; });
    }
    bwd_map<E> map;
    dx_sink<T, E> sink;
    find_map<T, E>(a.f, t, &map);
    add_means<E>(a.f, t, m.group[0], m.group[1], &map);
    open_sink<T, E>(a, t, &sink);
    write_dx_again<DROP>(a, t, &in, map, &sink);
    if (wants_dcond_sums(a)) store_chunk_sums<E>(a, cut, t, m, CHUNK_DX, sink.dx);
    if (a.sum_dx) store_chunk_sums<E>(a, cut, t, m, CHUNK_TOTAL, sink.total);
}

/* ---- sums of partial sums: blocks of NORM_COLUMNS channels and NORM_SLICES threads per channel ---- */

/* Sum of p[0], p[ld], ..., p[(rows - 1) ld], valid in the threads of slice 0.  All threads must call it. */
static __device__ __forceinline__ double column_total(const float *p, int rows, int64_t ld)
{
    SHARED(double, part, NORM_COLUMNS *NORM_SLICES);
    const int tid = (int)threadIdx.x;
    double sum = 0.0;
    UNROLL(4)
    for (int row = tid / NORM_COLUMNS; row < rows; row += NORM_SLICES) sum += p[row * ld];
    part[tid] = sum;
    __syncthreads();
    sum = 0.0;
    if (tid < NORM_COLUMNS)
        for (int s = 0; s < NORM_SLICES; s++) sum += part[s * NORM_COLUMNS + tid];
    __syncthreads(); /* before any thread writes the parts again */
    return sum;
}

/* Block (image, NORM_COLUMNS channels): adds S1 and S2 of an image's chunks; with at_the_end, the sums of dx. */
template <class T>
__global__ void __launch_bounds__(NORM_COLUMNS *NORM_SLICES)
    norm_act_bwd_join_kernel(norm_act_bwd_args a, norm_cut cut, int at_the_end)
{
    const int all = a.f.c1 + a.f.c2, blocks = (all + NORM_COLUMNS - 1) / NORM_COLUMNS;
    const int image = (int)blockIdx.x / blocks;
    const int c = (int)blockIdx.x % blocks * NORM_COLUMNS + (int)threadIdx.x % NORM_COLUMNS;
    const bool mine = (int)threadIdx.x < NORM_COLUMNS && c < all;
    const int rows = c < all ? cut.chunks : 0;
    const int64_t ld = (int64_t)CHUNK_SUMS * all;
    const bool first = !at_the_end || wants_dcond_sums(a), second = !at_the_end || a.sum_dx;
    const double sum1 = first ? column_total(chunk_sum(a, cut, image, 0, CHUNK_S1, c), rows, ld) : 0.0;
    const double sum2 = second ? column_total(chunk_sum(a, cut, image, 0, CHUNK_S2, c), rows, ld) : 0.0;
    if (!mine) return;
    if (!at_the_end) {
        const int64_t group = (int64_t)image * a.f.groups + c / (all / a.f.groups);
        finish_sums<T>(a, image, c, sum1, sum2 * a.f.rstd[group], norm_channels_of<T, 1>(a.f, image, c).up[0]);
        return;
    }
    if (first) store_dcond<T>(a, image, c, sum1);
    if (second) *image_sum(a, image, NORM_SUM_DX, c) = (float)sum2;
}

/* ---- launches ---- */

template <class T, int E, bool DROP>
static void launch_chunks(cudaStream_t stream, const norm_act_bwd_args &a, const norm_cut &cut)
{
    const unsigned columns = ((unsigned)(a.f.c1 + a.f.c2) + NORM_COLUMNS - 1) / NORM_COLUMNS;
    const unsigned blocks = norm_blocks(&a.f, &cut), threads = NORM_COLUMNS * NORM_SLICES;
    SHARED_LIMIT((norm_act_bwd_sums_kernel<T, E, DROP>), shared_most());
    SHARED_LIMIT((norm_act_bwd_apply_kernel<T, E, DROP>), shared_most());
    LAUNCH((norm_act_bwd_sums_kernel<T, E, DROP>), dim3(blocks), cut.threads, cut.shared, stream, a, cut);
    LAUNCH(norm_act_bwd_join_kernel<T>, dim3(a.f.n * columns), threads, 0, stream, a, cut, 0);
    if (!wants_dx(a)) return;
    LAUNCH((norm_act_bwd_apply_kernel<T, E, DROP>), dim3(blocks), cut.threads, cut.shared, stream, a, cut);
    if (!wants_dcond_sums(a) && !a.sum_dx) return;
    LAUNCH(norm_act_bwd_join_kernel<T>, dim3(a.f.n * columns), threads, 0, stream, a, cut, 1);
}

template <class T, int E, bool DROP>
static ddpm_status launch_as(void *to, const norm_act_bwd_args &a, const norm_cut &cut)
{
    const cudaStream_t stream = (cudaStream_t)to;
    if (cut.slab) {
        SHARED_LIMIT((norm_act_bwd_slab_kernel<T, E, DROP>), shared_most());
        LAUNCH((norm_act_bwd_slab_kernel<T, E, DROP>), dim3(norm_blocks(&a.f, &cut)), cut.threads, cut.shared, stream,
               a, cut);
    } else
        launch_chunks<T, E, DROP>(stream, a, cut);
    return launch_status();
}

template <class T, int E> static ddpm_status launch(void *to, const norm_act_bwd_args &a, const norm_cut &cut)
{
    return a.f.dropout.state ? launch_as<T, E, true>(to, a, cut) : launch_as<T, E, false>(to, a, cut);
}

ddpm_status k_norm_act_bwd_within(void *stream, const norm_act_bwd_args *a, size_t shared)
{
    const norm_act_args *f = &a->f;
    const bool aligned = norm_is_aligned(f->x) && norm_is_aligned(f->x2) && norm_is_aligned(a->dy) &&
                         norm_is_aligned(a->dx) && norm_is_aligned(a->dx2);
    const norm_want want = {2 * (size_t)norm_storage_bytes(f), shared, aligned, false};
    norm_cut cut;
    if (!norm_shape_is_sound(f) || !norm_cut_make(&cut, f, &want) || norm_blocks(f, &cut) == 0) return DDPM_EINVAL;
    if (f->type == STORE_F32)
        return cut.vector == 1 ? launch<float, 1>(stream, *a, cut) : launch<float, 4>(stream, *a, cut);
    return cut.vector == 1 ? launch<bf16, 1>(stream, *a, cut) : launch<bf16, 8>(stream, *a, cut);
}

ddpm_status k_norm_act_bwd(void *stream, const norm_act_bwd_args *a)
{
    return k_norm_act_bwd_within(stream, a, shared_most());
}
