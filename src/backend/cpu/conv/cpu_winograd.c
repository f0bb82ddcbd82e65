#include "backend/cpu/conv/cpu_winograd.h"
#include "base/arith.h"
#include "backend/cpu/conv/cpu_panel.h"
#include "backend/cpu/conv/cpu_winograd_tile.h"

#ifndef CONTRACT_FAST
#error "cpu_winograd.c has its speed and its stated error only with -ffp-contract=fast (CMakeLists.txt)"
#endif

#include <omp.h>

enum { MATRICES = POINTS * POINTS, TAPS = SIDE * SIDE, LINE = 64 / sizeof(float) };
/* Cache budget per thread: bytes of transformed tiles in a chunk; and the limits of a chunk in tiles.  Filter gradients
 * use chunks of twice as many tiles if there are at most FEW_THREADS threads: their total memory is small then. */
enum { OWN_BYTES = 5 << 19, FEWEST = 16, MOST = 64, FEW_THREADS = 8 };
/* Filter gradients are summed in up to PARTS parts of at least PART_TILES tiles, and of at most PART_BYTES in total. */
enum { PART_TILES = 192, PARTS = 8, PART_BYTES = 16 << 20 };
enum { GROUP = 128 / LANES }; /* panels of the result that are computed before their inverse transform */
enum { AHEAD = 4 };           /* prefetch distance to the L1 cache, in tiles */

/* How a convolution is split.  `from` is the number of input channels, summed over, and `to` that of output
 * channels, both in panels; for a filter gradient they are the channels of src and dst.  The parts depend on the
 * shape only, so no order of additions depends on the number of threads. */
typedef struct cut {
    const conv_shape *s;
    bool enlarged;
    int threads;
    int64_t down, across, tiles; /* tiles per image in both directions; in the batch */
    int64_t from, to;
    int64_t chunk;  /* tiles processed at once */
    int64_t parts;  /* parts of the tiles: chunks; for a filter gradient, separate sums over several chunks */
    int64_t splits; /* parts of the output channels, if there are more threads than parts of the tiles */
    /* Floats from the matrix of one point to that of the next.  They fill an odd number of cache lines, because
     * otherwise the 36 values of a tile would fall into few sets of a cache. */
    int64_t filter_point, from_point, to_point;
} cut;

typedef struct place {
    int64_t image;
    int64_t y, x; /* first pixel of the tile */
} place;

static int64_t odd_lines(int64_t floats) { return (ceil_div(floats, LINE) | 1) * LINE; }

/* Tiles per chunk, at most `most`, such that all threads get the same number of chunks if there are enough tiles. */
static int64_t chunk_of(int64_t tiles, int64_t most, int threads)
{
    const int64_t rounds = ceil_div(tiles, threads * most);
    return max_i64(round_up(ceil_div(tiles, threads * rounds), PANEL_ROWS), FEWEST);
}

static int64_t parts_of(const cut *c)
{
    const int64_t bytes = MATRICES * c->filter_point * (int64_t)sizeof(float);
    int64_t parts = 1;
    while (2 * parts <= PARTS && 2 * parts * PART_TILES <= c->tiles && 2 * parts * bytes <= PART_BYTES) parts *= 2;
    return parts;
}

static cut cut_of(const winograd_spec *spec)
{
    const conv_shape *s = &spec->shape;
    const bool weights = s->pass == CONV_PASS_BACKWARD_WEIGHTS, data = s->pass == CONV_PASS_BACKWARD_DATA;
    cut c = {.s = s,
             .enlarged = spec->enlarged,
             .threads = spec->threads,
             .down = ceil_div(s->h, TILE),
             .across = ceil_div(s->w, TILE)};
    c.tiles = s->n * c.down * c.across;
    c.from = (data ? s->cout : s->cin) / LANES;
    c.to = (data ? s->cin : s->cout) / LANES;
    c.filter_point = odd_lines(s->cin * s->cout);
    if (weights) {
        c.parts = parts_of(&c);
        const int64_t most = c.threads <= FEW_THREADS ? 2 * PANEL_SUM : PANEL_SUM; /* both give the same sums */
        c.chunk = round_up(min_i64(most, ceil_div(c.tiles, c.parts)), PANEL_ROWS);
        c.splits = min_i64(s->cout / PANEL_ROWS, ceil_div(c.threads, c.parts));
    } else {
        const int64_t fit = OWN_BYTES / (MATRICES * LANES * (int64_t)sizeof(float) * c.from);
        c.chunk = chunk_of(c.tiles, max_i64(FEWEST, min_i64(MOST, fit)) / PANEL_ROWS * PANEL_ROWS, c.threads);
        c.parts = ceil_div(c.tiles, c.chunk);
        c.splits = max_i64(1, min_i64(c.to, c.threads / c.parts));
    }
    c.from_point = odd_lines(c.from * c.chunk * LANES);
    c.to_point = odd_lines((weights ? c.to : min_i64(GROUP, c.to)) * c.chunk * LANES);
    return c;
}

/* Floats of a thread's workspace: transformed tiles of both images, and the sums of their pixels. */
static int64_t own_floats(const cut *c)
{
    return MATRICES * (c->from_point + c->to_point) + round_up(c->chunk * LANES, LINE);
}

/* Floats of a filter at all points; for a part of a filter gradient, including the gradient of the bias. */
static int64_t part_floats(const cut *c) { return MATRICES * c->filter_point + round_up(c->s->cout, LINE); }

winograd_image winograd_image_of(const tensor *t)
{
    if (!t) return (winograd_image){0};
    return (winograd_image){t->data, cpu_strides_of(t, t->layout)};
}

size_t winograd_scratch(const winograd_spec *s)
{
    const cut c = cut_of(s);
    const int64_t filters = (c.s->pass == CONV_PASS_BACKWARD_WEIGHTS ? c.parts : 1) * part_floats(&c);
    return (size_t)(filters + c.threads * own_floats(&c)) * sizeof(float);
}

/* ---- tiles in images ---- */

static place place_of(const cut *c, int64_t tile)
{
    const int64_t image = tile / (c->down * c->across), in = tile % (c->down * c->across);
    return (place){image, in / c->across * TILE, in % c->across * TILE};
}

/* One panel of channels of one image: pixel (y, x) is at[y * row + x * pixel]. */
typedef struct plane {
    float *at;
    int64_t row, pixel;
} plane;

static plane plane_of(const winograd_image *x, int64_t width, int64_t image, int64_t panel)
{
    const cpu_strides by = x->strides;
    const int64_t channel = panel * LANES;
    float *at = x->data + image * by.image + channel / CHANNEL_BLOCK * by.block + channel % CHANNEL_BLOCK;
    return (plane){at, width * by.pixel, by.pixel};
}

/* Loads size x size pixels from (y, x) on, 0 outside of h x w; `halved`: of the image upsampled by 2. */
static ALWAYS_INLINE void load_pixels(const plane *p, int64_t y, int64_t x, int64_t h, int64_t w, int halved,
                                      const int size, lanes *to)
{
    if (!halved && y >= 0 && x >= 0 && y + size <= h && x + size <= w) {
        const float *from = p->at + y * p->row + x * p->pixel;
        EACH (i, size)
            EACH (j, size) to[i * size + j] = lanes_load(from + i * p->row + j * p->pixel);
        return;
    }
    const int64_t bottom = min_i64(size, h - y), left = max_i64(0, -x), right = min_i64(size, w - x);
    EACH (i, size * size) to[i] = (lanes){0};
    for (int64_t i = max_i64(0, -y); i < bottom; i++)
        for (int64_t j = left; j < right; j++)
            to[i * size + j] = lanes_load(p->at + ((y + i) >> halved) * p->row + ((x + j) >> halved) * p->pixel);
}

/* Prefetches the pixels of a tile that no earlier tile has read, shifted by `offset` in both directions. */
static ALWAYS_INLINE void fetch_pixels(const cut *c, const winograd_image *x, int64_t panel, int64_t tile, int offset)
{
    const place at = place_of(c, tile);
    const plane p = plane_of(x, c->s->w, at.image, panel);
    const int64_t bottom = min_i64(TILE, c->s->h - at.y - offset), right = min_i64(TILE, c->s->w - at.x - offset);
    for (int64_t i = offset; i < bottom + offset; i++)
        for (int64_t j = offset; j < right + offset; j++)
            __builtin_prefetch(p.at + (at.y + i) * p.row + (at.x + j) * p.pixel);
}

/* B^T d B of tiles [first, first + count) of one panel; `to` is the first tile at the first point. */
static void transform_input(const cut *c, const winograd_image *x, int64_t panel, int64_t first, int64_t count,
                            float *to)
{
    const conv_shape *s = c->s;
    const int halved = c->enlarged && s->pass != CONV_PASS_BACKWARD_DATA;
    for (int64_t t = 0; t < count; t++, to += LANES) {
        const place at = place_of(c, first + t);
        const plane p = plane_of(x, s->w >> halved, at.image, panel);
        lanes d[POINTS][POINTS], v[POINTS][POINTS];
        if (!halved && t + AHEAD < count) fetch_pixels(c, x, panel, first + t + AHEAD, 1);
        load_pixels(&p, at.y - 1, at.x - 1, s->h, s->w, halved, POINTS, d[0]);
        BOTH_WAYS(points_of_input, POINTS, POINTS, d, v);
        store_points(to, c->from_point, v);
    }
}

/* A dY A^T of tiles [first, first + count) of one panel, and the sum over the pixels of each tile. */
static void transform_gradient(const cut *c, const winograd_image *dy, int64_t panel, int64_t first, int64_t count,
                               float *to, float *sums)
{
    const conv_shape *s = c->s;
    for (int64_t t = 0; t < count; t++, to += LANES) {
        const place at = place_of(c, first + t);
        const plane p = plane_of(dy, s->w, at.image, panel);
        lanes y[TILE][TILE], w[POINTS][POINTS], sum = {0};
        if (t + AHEAD < count) fetch_pixels(c, dy, panel, first + t + AHEAD, 0);
        load_pixels(&p, at.y, at.x, s->h, s->w, 0, TILE, y[0]);
        EACH (i, TILE) sum += (y[i][0] + y[i][1]) + (y[i][2] + y[i][3]);
        lanes_store(sums + t * LANES, sum);
        BOTH_WAYS(points_of_output, TILE, POINTS, y, w);
        store_points(to, c->to_point, w);
    }
}

/* ---- filters ---- */

static void store_filter(const cut *c, lanes g[SIDE][SIDE], float *to)
{
    lanes u[POINTS][POINTS];
    BOTH_WAYS(points_of_filter, SIDE, POINTS, g, u);
    store_points(to, c->filter_point, u);
}

/* Transforms LANES x LANES channels; at each point u is [to][from channels][LANES]. */
static void transform_filter(const cut *c, const winograd_args *a, int64_t from, int64_t to, float *u)
{
    const int64_t ld = c->s->cin;
    u += (to * c->from + from) * LANES * LANES;
    if (c->s->pass == CONV_PASS_BACKWARD_DATA) {
        for (int64_t k = 0; k < LANES; k++) {
            const float *filter = a->filter + (from * LANES + k) * TAPS * ld + to * LANES;
            lanes g[SIDE][SIDE];
            EACH (tap, TAPS) g[tap / SIDE][tap % SIDE] = lanes_load(filter + (TAPS - 1 - tap) * ld);
            store_filter(c, g, u + k * LANES);
        }
        return;
    }
    float turned[TAPS][LANES][LANES];
    for (int64_t co = 0; co < LANES; co++)
        for (int tap = 0; tap < TAPS; tap++) {
            const float *filter = a->filter + ((to * LANES + co) * TAPS + tap) * ld + from * LANES;
            for (int k = 0; k < LANES; k++) turned[tap][k][co] = filter[k];
        }
    for (int k = 0; k < LANES; k++) {
        lanes g[SIDE][SIDE];
        EACH (tap, TAPS) g[tap / SIDE][tap % SIDE] = lanes_load(turned[tap][k]);
        store_filter(c, g, u + k * LANES);
    }
}

/* ---- forward, and the gradient of the input ---- */

/* At each point, multiplies the tiles of a chunk by panels [begin, end) of the filter. */
static void multiply(const cut *c, const float *v, const float *u, int64_t count, int64_t begin, int64_t end, float *m)
{
    const int64_t inner = c->from * LANES;
    for (int k = 0; k < MATRICES; k++)
        for (int64_t to = begin, n; to < end; to += n) {
            n = panels_next(end - to);
            for (int64_t t = 0; t < count; t += PANEL_ROWS) {
                const panel_args p = {.a = v + k * c->from_point + t * LANES,
                                      .b = u + k * c->filter_point + to * inner * LANES,
                                      .c = m + k * c->to_point + ((to - begin) * c->chunk + t) * LANES,
                                      .a_panel = c->chunk * LANES,
                                      .b_panel = inner * LANES,
                                      .c_panel = c->chunk * LANES};
                WITH_CONST_PANELS(P, n, panel_times(&p, inner, P));
            }
        }
}

/* Stores the part of a tile of the result that lies inside the image. */
static ALWAYS_INLINE void put_pixels(const conv_shape *s, const place *at, const plane *to, const plane *add,
                                     lanes y[TILE][TILE])
{
    const int64_t down = min_i64(TILE, s->h - at->y), across = min_i64(TILE, s->w - at->x);
    float *first = to->at + at->y * to->row + at->x * to->pixel;
    const float *more = add->at ? add->at + at->y * add->row + at->x * add->pixel : NULL;
    if (down == TILE && across == TILE && !more) {
        EACH (i, TILE)
            EACH (j, TILE) lanes_store(first + i * to->row + j * to->pixel, y[i][j]);
        return;
    }
    for (int64_t i = 0; i < down; i++)
        for (int64_t j = 0; j < across; j++) {
            const lanes v = more ? y[i][j] + lanes_load(more + i * add->row + j * add->pixel) : y[i][j];
            lanes_store(first + i * to->row + j * to->pixel, v);
        }
}

/* The same for the gradient of an upsampled input: each 2x2 pixels are added to one. */
static ALWAYS_INLINE void put_quarters(const conv_shape *s, const place *at, const plane *to, const plane *add,
                                       lanes y[TILE][TILE])
{
    const int64_t down = min_i64(TILE, s->h - at->y), across = min_i64(TILE, s->w - at->x);
    for (int64_t i = 0; i < down; i += 2)
        for (int64_t j = 0; j < across; j += 2) {
            lanes v = (y[i][j] + y[i][j + 1]) + (y[i + 1][j] + y[i + 1][j + 1]);
            if (add->at) v += lanes_load(add->at + (at->y + i) / 2 * add->row + (at->x + j) / 2 * add->pixel);
            lanes_store(to->at + (at->y + i) / 2 * to->row + (at->x + j) / 2 * to->pixel, v);
        }
}

static void transform_output(const cut *c, const winograd_args *a, int64_t panel, int64_t first, int64_t count,
                             const float *m)
{
    const conv_shape *s = c->s;
    const bool backward = s->pass == CONV_PASS_BACKWARD_DATA, quarters = backward && c->enlarged;
    const winograd_image *to = backward ? &a->src : &a->dst;
    const int64_t width = quarters ? s->w / 2 : s->w;
    const lanes bias = !backward && a->bias ? lanes_load(a->bias + panel * LANES) : (lanes){0};
    for (int64_t t = 0; t < count; t++, m += LANES) {
        const place at = place_of(c, first + t);
        const plane p = plane_of(to, width, at.image, panel);
        const plane other = a->add.data ? plane_of(&a->add, width, at.image, panel) : (plane){0};
        lanes points[POINTS][POINTS], y[TILE][TILE];
        load_points(m, c->to_point, points);
        BOTH_WAYS(output_of_points, POINTS, TILE, points, y);
        EACH (k, TILE * TILE) y[k / TILE][k % TILE] += bias;
        if (quarters)
            put_quarters(s, &at, &p, &other, y);
        else
            put_pixels(s, &at, &p, &other, y);
    }
}

static void run_chunk(const cut *c, const winograd_args *a, int64_t part, int64_t split, const float *u, float *own)
{
    const winograd_image *x = c->s->pass == CONV_PASS_FORWARD ? &a->src : &a->dst;
    const int64_t first = part * c->chunk, count = min_i64(c->chunk, c->tiles - first);
    const int64_t begin = split * c->to / c->splits, end = (split + 1) * c->to / c->splits;
    float *v = own, *m = own + MATRICES * c->from_point;
    for (int64_t from = 0; from < c->from; from++)
        transform_input(c, x, from, first, count, v + from * c->chunk * LANES);
    for (int64_t to = begin, stop; to < end; to = stop) {
        stop = to + ceil_div(end - to, ceil_div(end - to, GROUP));
        multiply(c, v, u, count, to, stop, m);
        for (int64_t panel = to; panel < stop; panel++)
            transform_output(c, a, panel, first, count, m + (panel - to) * c->chunk * LANES);
    }
}

static void run_images(const cut *c, const winograd_args *a)
{
    float *u = a->scratch, *own = u + part_floats(c);
#pragma omp parallel num_threads(c->threads)
    {
#pragma omp for collapse(2) schedule(static)
        for (int64_t to = 0; to < c->to; to++)
            for (int64_t from = 0; from < c->from; from++) transform_filter(c, a, from, to, u);
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t part = 0; part < c->parts; part++)
            for (int64_t split = 0; split < c->splits; split++)
                run_chunk(c, a, part, split, u, own + omp_get_thread_num() * own_floats(c));
    }
}

/* ---- the gradient of the filter ---- */

/* A work item: a range of dst channels for one part of the tiles. */
typedef struct portion {
    int64_t first, end; /* tiles */
    int64_t co, co_end; /* multiples of PANEL_ROWS */
    /* transformed tiles of src and dst; sums over the pixels of each tile, for one panel at a time */
    float *v, *w, *pixels;
    float *du, *bias; /* results of the part */
} portion;

static portion portion_of(const cut *c, const winograd_args *a, int64_t part, int64_t split)
{
    float *parts = a->scratch, *own = parts + c->parts * part_floats(c) + omp_get_thread_num() * own_floats(c);
    const int64_t units = c->s->cout / PANEL_ROWS;
    portion p = {.first = part * c->tiles / c->parts, .end = (part + 1) * c->tiles / c->parts};
    p.co = split * units / c->splits * PANEL_ROWS, p.co_end = (split + 1) * units / c->splits * PANEL_ROWS;
    p.v = own, p.w = p.v + MATRICES * c->from_point, p.pixels = p.w + MATRICES * c->to_point;
    p.du = parts + part * part_floats(c), p.bias = p.du + MATRICES * c->filter_point;
    return p;
}

/* Adds the pixel sums of tiles, in partial sums of PANEL_SUM like the products. */
static void sum_pixels(const portion *p, int64_t panel, int64_t count, bool add)
{
    float *to = p->bias + panel * LANES;
    for (int64_t from = 0; from < count; from += PANEL_SUM) {
        const int64_t end = min_i64(count, from + PANEL_SUM);
        lanes sum = {0};
        for (int64_t t = from; t < end; t++) sum += lanes_load(p->pixels + t * LANES);
        lanes_store(to, add || from > 0 ? lanes_load(to) + sum : sum);
    }
}

/* At each point, adds the product of the chunk's tiles: dst channels by src channels. */
static void multiply_gradient(const cut *c, const portion *p, int64_t count, bool add)
{
    const int64_t cout = c->s->cout, panel = c->chunk * LANES;
    for (int k = 0; k < MATRICES; k++)
        for (int64_t from = 0, n; from < c->from; from += n) {
            n = panels_next(c->from - from);
            for (int64_t co = p->co; co < p->co_end; co += PANEL_ROWS) {
                const panel_args args = {.a = p->w + k * c->to_point + co / LANES * panel + co % LANES,
                                         .b = p->v + k * c->from_point + from * panel,
                                         .c = p->du + k * c->filter_point + (from * cout + co) * LANES,
                                         .b_panel = panel,
                                         .c_panel = cout * LANES};
                WITH_CONST_PANELS(P, n, panel_transposed_times(&args, count, add, P));
            }
        }
}

static void run_portion(const cut *c, const winograd_args *a, const portion *p)
{
    for (int64_t first = p->first; first < p->end; first += c->chunk) {
        const int64_t count = min_i64(c->chunk, p->end - first);
        for (int64_t panel = 0; panel < c->from; panel++)
            transform_input(c, &a->src, panel, first, count, p->v + panel * c->chunk * LANES);
        for (int64_t panel = p->co / LANES; panel * LANES < p->co_end; panel++) {
            transform_gradient(c, &a->dst, panel, first, count, p->w + panel * c->chunk * LANES, p->pixels);
            if (panel * LANES >= p->co) sum_pixels(p, panel, count, first > p->first);
        }
        multiply_gradient(c, p, count, first > p->first);
    }
}

/* Adds all parts and transforms the filter gradient back, for channel co of dst and one panel of src. */
static void finish_filter(const cut *c, const winograd_args *a, int64_t from, int64_t co)
{
    const float *du = (const float *)a->scratch + (from * c->s->cout + co) * LANES;
    lanes u[POINTS][POINTS], g[SIDE][SIDE];
    load_points(du, c->filter_point, u);
    for (int64_t part = 1; part < c->parts; part++)
        EACH (i, POINTS)
            EACH (j, POINTS) u[i][j] += lanes_load(du + part * part_floats(c) + (i * POINTS + j) * c->filter_point);
    BOTH_WAYS(filter_of_points, POINTS, SIDE, u, g);
    EACH (tap, TAPS) {
        float *to = a->filter + (co * TAPS + tap) * c->s->cin + from * LANES;
        lanes_store(to, a->adds ? lanes_load(to) + g[tap / SIDE][tap % SIDE] : g[tap / SIDE][tap % SIDE]);
    }
}

static void finish_bias(const cut *c, const winograd_args *a)
{
    const float *sums = (const float *)a->scratch + MATRICES * c->filter_point;
    for (int64_t co = 0; co < c->s->cout; co++) {
        float sum = 0;
        for (int64_t part = 0; part < c->parts; part++) sum += sums[part * part_floats(c) + co];
        a->bias[co] = a->adds_bias ? a->bias[co] + sum : sum;
    }
}

static void run_weights(const cut *c, const winograd_args *a)
{
#pragma omp parallel num_threads(c->threads)
    {
#pragma omp for collapse(2) schedule(dynamic)
        for (int64_t part = 0; part < c->parts; part++)
            for (int64_t split = 0; split < c->splits; split++) {
                const portion p = portion_of(c, a, part, split);
                run_portion(c, a, &p);
            }
#pragma omp for collapse(2) schedule(static)
        for (int64_t from = 0; from < c->from; from++)
            for (int64_t co = 0; co < c->s->cout; co++) finish_filter(c, a, from, co);
    }
    if (a->bias) finish_bias(c, a);
}

void winograd_run(const winograd_spec *s, const winograd_args *a)
{
    const cut c = cut_of(s);
    if (s->shape.pass == CONV_PASS_BACKWARD_WEIGHTS)
        run_weights(&c, a);
    else
        run_images(&c, a);
}
