/* cpu_norm_act.c - group normalization (+ SiLU, dropout) over one or two sources, forward and backward.
 *
 * The work is split into (image, range of whole groups).  A range is processed in pieces: channels that are
 * contiguous in every operand, whatever its layout, so that a piece is a pointer and a stride from pixel to pixel.
 * A piece of a block of 16 channels is contiguous and stays in the L2 cache between passes.
 *
 * Statistics take one pass, with shifted moments: sums of (x - shift) and (x - shift)^2, where shift is the mean of
 * the channel's first block of 32 pixels (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample
 * variance", shifted data).  Sums over a block of 32 pixels are in f32, over blocks and over the channels of a group
 * in f64.  The result does not depend on how the work is split. */
#include "backend/cpu/cpu_backend.h"
#include "base/arith.h"
#include "backend/cpu/op/cpu_dropout.h"
#include "backend/cpu/lib/cpu_lanes.h"
#include "backend/cpu/lib/cpu_layout.h"
#include "backend/step_args.h"
#include "math/elementary.h"

#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    RANGE = 64,               /* preferred channels of a range in NHWC */
    RANGE_FULL = 256,         /* maximum channels of a range of whole blocks */
    RANGE_MAX = 4096,         /* maximum channels of a group */
    PIECE = DROPOUT_CHANNELS, /* maximum channels of a piece */
    BLOCK = 32                /* pixels per partial sum in f32 */
};

typedef struct norm_shape {
    int64_t n, hw, c, c1; /* c1: channels of the first source */
    int groups;
    int64_t per_group; /* channels per group */
    int64_t range;     /* channels of a range: whole groups */
    int ranges;
} norm_shape;

static int64_t common_multiple(int64_t a, int64_t b)
{
    int64_t x = a, y = b;
    while (y) {
        const int64_t rest = x % y;
        x = y, y = rest;
    }
    return a / x * b;
}

static norm_shape shape_of(const tensor *x, const tensor *x2, int groups)
{
    norm_shape q = {.n = x->n, .hw = tensor_hw(x), .c1 = x->c, .c = x->c + (x2 ? x2->c : 0), .groups = groups};
    q.per_group = q.c / groups;
    const int64_t full = common_multiple(q.per_group, CHANNEL_BLOCK);
    if (x->layout == LAYOUT_BLOCKED && full <= RANGE_FULL)
        q.range = full;
    else
        q.range = q.per_group >= RANGE ? q.per_group : RANGE / q.per_group * q.per_group;
    q.ranges = (int)ceil_div(q.c, q.range);
    return q;
}

static ddpm_status check(const tensor *x, const tensor *x2, int groups, err *e)
{
    const norm_shape q = shape_of(x, x2, groups);
    if (q.range > RANGE_MAX)
        return err_set(e, DDPM_EINVAL, "GroupNorm: %lld channels per group; at most %d are supported",
                       (long long)q.per_group, RANGE_MAX);
    return DDPM_OK;
}

/* Contiguous channels of one image in a tensor: those of pixel i are at[i * step]. */
typedef struct spot {
    float *at; /* NULL: the tensor is absent */
    int64_t step;
} spot;

static spot spot_of(const tensor *t, int64_t image, int64_t channel)
{
    if (!t) return (spot){NULL, 0};
    const int64_t hw = tensor_hw(t), c = channel % CHANNEL_BLOCK;
    float *data = t->data;
    if (t->layout == LAYOUT_BLOCKED) return (spot){data + (image * t->c + channel - c) * hw + c, CHANNEL_BLOCK};
    return (spot){data + image * hw * t->c + channel, t->c};
}

/* Channels of a tensor from `channel` to the end of its block. */
static int64_t rest_of_block(const tensor *t, int64_t channel)
{
    return t && t->layout == LAYOUT_BLOCKED ? CHANNEL_BLOCK - channel % CHANNEL_BLOCK : PIECE;
}

/* `call`, in which N is the width: compiled once for whole blocks of channels and once for any width. */
#define WITH_CONST_WIDTH(N, width, call)                                                                               \
    do {                                                                                                               \
        if ((width) == CHANNEL_BLOCK) {                                                                                \
            enum { N = CHANNEL_BLOCK };                                                                                \
            call;                                                                                                      \
        } else {                                                                                                       \
            const int N = (width);                                                                                     \
            call;                                                                                                      \
        }                                                                                                              \
    } while (0)

/* Shifted moments of each channel: sums of (x - shift) and (x - shift)^2 over the pixels. */
typedef struct channel_moments {
    float shift[RANGE_MAX];
    double sum[RANGE_MAX], squares[RANGE_MAX];
} channel_moments;

static ALWAYS_INLINE void moments(spot x, int64_t hw, int width, float *shift, double *sum, double *squares)
{
    float part[PIECE], part2[PIECE];
    const int64_t first = min_i64(BLOCK, hw);
    for (int c = 0; c < width; c++) part[c] = 0, sum[c] = squares[c] = 0;
    for (int64_t i = 0; i < first; i++) {
        const float *from = x.at + i * x.step;
#pragma omp simd
        for (int c = 0; c < width; c++) part[c] += from[c];
    }
    for (int c = 0; c < width; c++) shift[c] = part[c] / (float)first;
    for (int64_t block = 0; block < hw; block += BLOCK) {
        const int64_t end = min_i64(block + BLOCK, hw);
        for (int c = 0; c < width; c++) part[c] = part2[c] = 0;
        for (int64_t i = block; i < end; i++) {
            const float *from = x.at + i * x.step;
#pragma omp simd
            for (int c = 0; c < width; c++) {
                const float v = from[c] - shift[c];
                part[c] += v;
                part2[c] = fmaf(v, v, part2[c]);
            }
        }
        for (int c = 0; c < width; c++) sum[c] += (double)part[c], squares[c] += (double)part2[c];
    }
}

/* to[g] = mean of the totals of group g of the range */
static void spread_group_means(const norm_shape *q, const double *totals, int64_t width, double *to)
{
    const double count = (double)(q->per_group * q->hw);
    for (int64_t g = 0; g * q->per_group < width; g++) {
        double sum = 0;
        for (int64_t c = 0; c < q->per_group; c++) sum += totals[g * q->per_group + c];
        to[g] = sum / count;
    }
}

typedef struct norm_args {
    norm_shape q;
    const tensor *x[2], *y; /* the sources; y or its gradient */
    const tensor *dx[2];    /* NULL: not needed */
    const float *gamma, *beta, *cond;
    int64_t cond_ld;
    norm_cond kind;
    bool silu;
    float eps;
    dropout_mask dropout;
} norm_args;

static const float zeros[RANGE_MAX];

/* Channels [from, from + width) of the concatenated sources of one image: all in one source, and within one block of
 * every blocked tensor. width 0: past the end. */
typedef struct piece {
    int64_t from, channel; /* first channel: among all, and in its source */
    int width, source;
    spot x;
} piece;

static piece piece_at(const norm_args *a, int64_t image, int64_t from, int64_t end)
{
    if (from >= end) return (piece){.from = from};
    piece k = {.from = from, .source = from >= a->q.c1};
    const tensor *x = a->x[k.source];
    k.channel = k.source ? from - a->q.c1 : from;
    int64_t width = min_i64(min_i64(end - from, PIECE), x->c - k.channel);
    width = min_i64(width, rest_of_block(x, k.channel));
    width = min_i64(width, rest_of_block(a->dx[k.source], k.channel));
    k.width = (int)min_i64(width, rest_of_block(a->y, from));
    k.x = spot_of(x, image, k.channel);
    return k;
}

static piece next_piece(const norm_args *a, int64_t image, const piece *k, int64_t end)
{
    return piece_at(a, image, k->from + k->width, end);
}

/* The affine map of each channel of a range: z = xhat * scale + shift. */
static void channel_affine(const norm_args *a, int64_t image, int64_t from, int64_t width, float *scale, float *shift)
{
    const float *s = a->kind == COND_SCALE_SHIFT ? a->cond + image * a->cond_ld + from : NULL;
    for (int64_t c = 0; c < width; c++) {
        const float up = s ? 1 + s[c] : 1;
        scale[c] = a->gamma[from + c] * up;
        shift[c] = a->beta[from + c] * up + (s ? s[a->q.c + c] : 0);
    }
}

/* The addend of each channel of the range, applied before the statistics. */
static const float *addend(const norm_args *a, int64_t image, int64_t from)
{
    return a->kind == COND_ADD ? a->cond + image * a->cond_ld + from : zeros;
}

/* The maps of the channels of a range: xhat = (x - center) rstd, z = xhat scale + shift. */
typedef struct channel_map {
    float center[RANGE_MAX]; /* mean - cond */
    float rstd[RANGE_MAX], scale[RANGE_MAX], shift[RANGE_MAX];
} channel_map;

/* y = act((x - center) scale + shift); `at`: first channel of the piece, relative to the range */
static ALWAYS_INLINE void apply(const channel_map *m, int64_t at, spot x, spot y, int64_t hw, bool silu, int width)
{
    const float *center = m->center + at, *scale = m->scale + at, *shift = m->shift + at;
    for (int64_t i = 0; i < hw; i++) {
        const float *from = x.at + i * x.step;
        float *to = y.at + i * y.step;
#pragma omp simd
        for (int c = 0; c < width; c++) {
            const float z = fmaf(from[c] - center[c], scale[c], shift[c]);
            to[c] = silu ? z * sigmoid_f32(z) : z;
        }
    }
}

/* y = dropout(x) for a piece, if there is dropout; y may be x */
static void drop(const norm_args *a, int64_t image, const piece *k, spot x, spot y)
{
    const dropout_range r = {.image = image, .pixels = a->q.hw, .c = a->q.c, .from = k->from, .width = k->width};
    if (a->dropout.state) cpu_dropout(&a->dropout, &r, x.at, x.step, y.at, y.step);
}

/* Mean and variance of each group of the range. */
static void group_statistics(const norm_args *a, int64_t image, int64_t from, int64_t width, double *mean,
                             double *variance)
{
    const norm_shape *q = &a->q;
    const float *cond = addend(a, image, from);
    const double hw = (double)q->hw, count = (double)q->per_group * hw;
    channel_moments m;
    for (piece k = piece_at(a, image, from, from + width); k.width; k = next_piece(a, image, &k, from + width)) {
        const int64_t at = k.from - from;
        WITH_CONST_WIDTH(W, k.width, moments(k.x, q->hw, W, m.shift + at, m.sum + at, m.squares + at));
    }
    for (int64_t g = 0; g * q->per_group < width; g++) {
        const int64_t first = g * q->per_group, end = first + q->per_group;
        double sum = 0, squares = 0; /* relative to `origin`, the mean of the first channel */
        const double origin = (double)m.shift[first] + (double)cond[first] + m.sum[first] / hw;
        for (int64_t c = first; c < end; c++) {
            const double off = (double)m.shift[c] + (double)cond[c] + m.sum[c] / hw - origin;
            sum += off;
            squares += m.squares[c] - m.sum[c] * m.sum[c] / hw + hw * off * off;
        }
        const double off = sum / (double)q->per_group;
        mean[g] = origin + off;
        variance[g] = fmax(squares / count - off * off, 0);
    }
}

static void forward_range(const norm_args *a, int64_t image, int64_t from, float *mean_out, float *rstd_out)
{
    const norm_shape *q = &a->q;
    const int64_t width = min_i64(q->range, q->c - from), group0 = from / q->per_group;
    const float *cond = addend(a, image, from);
    double group_mean[RANGE_MAX], group_var[RANGE_MAX];
    channel_map m;
    group_statistics(a, image, from, width, group_mean, group_var);
    channel_affine(a, image, from, width, m.scale, m.shift);
    for (int64_t c = 0; c < width; c++) {
        const int64_t g = c / q->per_group;
        const float rstd = (float)(1.0 / sqrt(group_var[g] + (double)a->eps));
        m.center[c] = (float)group_mean[g] - cond[c];
        mean_out[image * q->groups + group0 + g] = (float)group_mean[g];
        rstd_out[image * q->groups + group0 + g] = rstd;
        m.scale[c] *= rstd;
    }
    for (piece k = piece_at(a, image, from, from + width); k.width; k = next_piece(a, image, &k, from + width)) {
        const spot y = spot_of(a->y, image, k.from);
        if (a->silu)
            WITH_CONST_WIDTH(W, k.width, apply(&m, k.from - from, k.x, y, q->hw, true, W));
        else
            WITH_CONST_WIDTH(W, k.width, apply(&m, k.from - from, k.x, y, q->hw, false, W));
        drop(a, image, &k, y, y);
    }
}

static norm_args unpack_forward(const step *s)
{
    const tensor *cond = s->in[NORM_COND];
    return (norm_args){.q = shape_of(s->in[NORM_X], s->in[NORM_X2], s->a.norm.groups),
                       .x = {s->in[NORM_X], s->in[NORM_X2]},
                       .y = s->out[NORM_Y],
                       .gamma = s->in[NORM_GAMMA]->data,
                       .beta = s->in[NORM_BETA]->data,
                       .cond = cpu_data(cond),
                       .cond_ld = cond ? tensor_ld(cond) : 0,
                       .kind = s->a.norm.cond,
                       .silu = s->a.norm.silu,
                       .eps = s->a.norm.eps,
                       .dropout = step_dropout(s, s->in[NORM_STATE])};
}

static ddpm_status norm_act_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return check(s->in[NORM_X], s->in[NORM_X2], s->a.norm.groups, e);
}

static ddpm_status norm_act_run(cpu_backend *be, const step *s, err *e)
{
    const norm_args a = unpack_forward(s);
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t image = 0; image < a.q.n; image++)
        for (int r = 0; r < a.q.ranges; r++)
            forward_range(&a, image, r * a.q.range, s->out[NORM_MEAN]->data, s->out[NORM_RSTD]->data);
    return DDPM_OK;
}

/* ---- backward ----
 *
 * With z = xhat G + shift, G = gamma (1 + scale), dz = dy act'(z), and per (image, channel)
 * S1 = sum dz, S2 = sum dz xhat over pixels:
 *   dx = rstd (G dz - mean_group(G S1) - xhat mean_group(G S2))
 *   dgamma = sum_n (1 + scale) S2,   dbeta = sum_n (1 + scale) S1
 *   d(addend) = sum over pixels of dx;   dscale = gamma S2 + beta S1,  dshift = S1 */

typedef struct norm_grads {
    const float *mean, *rstd;
    bool add[2]; /* accumulate into dx */
    float *dcond;
    int64_t dcond_ld;
    bool add_cond;
    float *sums; /* [n][2][c]: S1 and S2 (times 1 + scale), for dgamma and dbeta */
} norm_grads;

typedef struct backward_piece {
    spot x, dy;
    float *dz; /* [hw, width]: computed in the first pass, read in the second; may be dy */
} backward_piece;

/* Computes dz of every pixel, S1 and S2. */
static ALWAYS_INLINE void channel_sums(const channel_map *m, int64_t at, const backward_piece *b, int64_t hw, bool silu,
                                       int width, double *s1, double *s2)
{
    const float *center = m->center + at, *rstd = m->rstd + at, *scale = m->scale + at, *shift = m->shift + at;
    float p1[PIECE], p2[PIECE];
    for (int c = 0; c < width; c++) s1[c] = s2[c] = 0;
    for (int64_t block = 0; block < hw; block += BLOCK) {
        const int64_t end = min_i64(block + BLOCK, hw);
        for (int c = 0; c < width; c++) p1[c] = p2[c] = 0;
        for (int64_t i = block; i < end; i++) {
            const float *x = b->x.at + i * b->x.step, *dy = b->dy.at + i * b->dy.step;
            float *to = b->dz + i * width;
#pragma omp simd
            for (int c = 0; c < width; c++) {
                const float xhat = (x[c] - center[c]) * rstd[c], z = fmaf(xhat, scale[c], shift[c]);
                const float sig = silu ? sigmoid_f32(z) : 1, dz = silu ? dy[c] * fmaf(z * sig, 1 - sig, sig) : dy[c];
                to[c] = dz;
                p1[c] += dz, p2[c] = fmaf(dz, xhat, p2[c]);
            }
        }
        for (int c = 0; c < width; c++) s1[c] += (double)p1[c], s2[c] += (double)p2[c];
    }
}

/* Computes dx of every pixel, if needed, and its sum over pixels; c1, c2: group means of G S1 and G S2. */
static ALWAYS_INLINE void write_dx(const channel_map *m, int64_t at, const backward_piece *b, int64_t hw, spot dx,
                                   bool add, int width, const float *c1, const float *c2, double *sums)
{
    const float *center = m->center + at, *rstd = m->rstd + at, *scale = m->scale + at;
    float part[PIECE], of_x[PIECE];
    for (int c = 0; c < width; c++) of_x[c] = rstd[c] * c2[c], sums[c] = 0;
    for (int64_t block = 0; block < hw; block += BLOCK) {
        const int64_t end = min_i64(block + BLOCK, hw);
        for (int c = 0; c < width; c++) part[c] = 0;
        for (int64_t i = block; i < end; i++) {
            const float *x = b->x.at + i * b->x.step, *dz = b->dz + i * width;
            float *to = dx.at ? dx.at + i * dx.step : NULL;
#pragma omp simd
            for (int c = 0; c < width; c++) {
                const float d = rstd[c] * fmaf(center[c] - x[c], of_x[c], scale[c] * dz[c] - c1[c]);
                part[c] += d;
                if (to) to[c] = add ? to[c] + d : d;
            }
        }
        for (int c = 0; c < width; c++) sums[c] += (double)part[c];
    }
}

static void write_dcond(const norm_args *a, const norm_grads *g, int64_t image, int64_t from, int64_t width,
                        const double *const sums[3])
{
    const double *s1 = sums[0], *s2 = sums[1], *dx_sums = sums[2];
    float *to = g->dcond + image * g->dcond_ld + from;
    for (int64_t c = 0; c < width; c++) {
        const float old = g->add_cond ? to[c] : 0;
        if (a->kind == COND_ADD) {
            to[c] = old + (float)dx_sums[c];
            continue;
        }
        const float old_shift = g->add_cond ? to[a->q.c + c] : 0;
        to[c] = old + (float)((double)a->gamma[from + c] * s2[c] + (double)a->beta[from + c] * s1[c]);
        to[a->q.c + c] = old_shift + (float)s1[c];
    }
}

static void write_range(const norm_args *a, const norm_grads *g, const channel_map *m, int64_t image, int64_t from,
                        int64_t width, const double *const group_means[2], float *dz, double *dx_sums)
{
    const norm_shape *q = &a->q;
    float c1[RANGE_MAX], c2[RANGE_MAX];
    for (int64_t c = 0; c < width; c++) {
        c1[c] = (float)group_means[0][c / q->per_group];
        c2[c] = (float)group_means[1][c / q->per_group];
    }
    for (piece k = piece_at(a, image, from, from + width); k.width; k = next_piece(a, image, &k, from + width)) {
        const int64_t at = k.from - from;
        const backward_piece b = {.x = k.x, .dz = dz + at * q->hw};
        const spot dx = spot_of(a->dx[k.source], image, k.channel);
        if (!dx.at)
            write_dx(m, at, &b, q->hw, dx, false, k.width, c1 + at, c2 + at, dx_sums + at);
        else if (g->add[k.source])
            WITH_CONST_WIDTH(W, k.width, write_dx(m, at, &b, q->hw, dx, true, W, c1 + at, c2 + at, dx_sums + at));
        else
            WITH_CONST_WIDTH(W, k.width, write_dx(m, at, &b, q->hw, dx, false, W, c1 + at, c2 + at, dx_sums + at));
    }
}

static void backward_range(const norm_args *a, const norm_grads *g, int64_t image, int64_t from, float *dz)
{
    const norm_shape *q = &a->q;
    const int64_t width = min_i64(q->range, q->c - from);
    double s1[RANGE_MAX], s2[RANGE_MAX], gs1[RANGE_MAX], gs2[RANGE_MAX], m1[RANGE_MAX], m2[RANGE_MAX];
    const float *cond = addend(a, image, from);
    channel_map m;
    channel_affine(a, image, from, width, m.scale, m.shift);
    for (int64_t c = 0; c < width; c++) {
        const int64_t group = image * q->groups + (from + c) / q->per_group;
        m.center[c] = g->mean[group] - cond[c], m.rstd[c] = g->rstd[group];
    }
    for (piece k = piece_at(a, image, from, from + width); k.width; k = next_piece(a, image, &k, from + width)) {
        const int64_t at = k.from - from;
        backward_piece b = {.x = k.x, .dy = spot_of(a->y, image, k.from), .dz = dz + at * q->hw};
        if (a->dropout.state) {
            const spot dropped = {b.dz, k.width};
            drop(a, image, &k, b.dy, dropped);
            b.dy = dropped;
        }
        if (a->silu)
            WITH_CONST_WIDTH(W, k.width, channel_sums(&m, at, &b, q->hw, true, W, s1 + at, s2 + at));
        else
            WITH_CONST_WIDTH(W, k.width, channel_sums(&m, at, &b, q->hw, false, W, s1 + at, s2 + at));
    }
    for (int64_t c = 0; c < width; c++) {
        const float up = a->kind == COND_SCALE_SHIFT ? 1 + a->cond[image * a->cond_ld + from + c] : 1;
        gs1[c] = (double)m.scale[c] * s1[c], gs2[c] = (double)m.scale[c] * s2[c];
        g->sums[(image * 2 + 0) * q->c + from + c] = (float)(s1[c] * (double)up);
        g->sums[(image * 2 + 1) * q->c + from + c] = (float)(s2[c] * (double)up);
    }
    spread_group_means(q, gs1, width, m1);
    spread_group_means(q, gs2, width, m2);
    if (a->dx[0] || a->dx[1] || (g->dcond && a->kind == COND_ADD))
        write_range(a, g, &m, image, from, width, (const double *const[]){m1, m2}, dz, gs1);
    if (g->dcond) write_dcond(a, g, image, from, width, (const double *const[]){s1, s2, gs1});
}

static size_t sums_floats(const tensor *dy) { return (size_t)round_up(dy->n * 2 * dy->c, CHANNEL_BLOCK); }

static ddpm_status norm_act_bwd_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    TRY(check(s->in[NORM_BWD_X], s->in[NORM_BWD_X2], s->a.norm.groups, e));
    const norm_shape q = shape_of(s->in[NORM_BWD_X], s->in[NORM_BWD_X2], s->a.norm.groups);
    const size_t dz = (size_t)(min_i64(q.range, q.c) * q.hw);
    *scratch = (sums_floats(s->in[NORM_BWD_DY]) + (size_t)be->threads * dz) * sizeof(float);
    return DDPM_OK;
}

static void sum_over_images(const float *sums, int64_t n, int64_t c, float *to, bool add)
{
    for (int64_t i = 0; i < c; i++) {
        double total = 0;
        for (int64_t image = 0; image < n; image++) total += (double)sums[image * 2 * c + i];
        to[i] = (add ? to[i] : 0) + (float)total;
    }
}

/* Plans for the CPU have no such output (backend.bias_sums): it is for comparisons with other backends, in NHWC. */
static void sum_over_pixels(const step *s, int from, int to)
{
    const tensor *dx = s->out[from], *sums = s->out[to];
    if (dx && sums) cpu_column_sums(dx->data, dx->n * tensor_hw(dx), dx->c, step_adds(s, to), sums->data);
}

static ddpm_status norm_act_bwd_run(cpu_backend *be, const step *s, err *e)
{
    const tensor *cond = s->in[NORM_BWD_COND], *dcond = s->out[NORM_BWD_DCOND];
    const norm_args a = {.q = shape_of(s->in[NORM_BWD_X], s->in[NORM_BWD_X2], s->a.norm.groups),
                         .x = {s->in[NORM_BWD_X], s->in[NORM_BWD_X2]},
                         .y = s->in[NORM_BWD_DY],
                         .dx = {s->out[NORM_BWD_DX], s->out[NORM_BWD_DX2]},
                         .gamma = s->in[NORM_BWD_GAMMA]->data,
                         .beta = s->in[NORM_BWD_BETA]->data,
                         .cond = cpu_data(cond),
                         .cond_ld = cond ? tensor_ld(cond) : 0,
                         .kind = s->a.norm.cond,
                         .silu = s->a.norm.silu,
                         .eps = s->a.norm.eps,
                         .dropout = step_dropout(s, s->in[NORM_BWD_STATE])};
    const norm_grads g = {.mean = s->in[NORM_BWD_MEAN]->data,
                          .rstd = s->in[NORM_BWD_RSTD]->data,
                          .add = {step_adds(s, NORM_BWD_DX), step_adds(s, NORM_BWD_DX2)},
                          .dcond = cpu_data(dcond),
                          .dcond_ld = dcond ? tensor_ld(dcond) : 0,
                          .add_cond = step_adds(s, NORM_BWD_DCOND),
                          .sums = s->scratch->data};
    float *dz = g.sums + sums_floats(a.y);
    const int64_t slot = min_i64(a.q.range, a.q.c) * a.q.hw;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t image = 0; image < a.q.n; image++)
        for (int r = 0; r < a.q.ranges; r++)
            backward_range(&a, &g, image, r * a.q.range, dz + slot * omp_get_thread_num());
    sum_over_images(g.sums, a.q.n, a.q.c, s->out[NORM_BWD_DBETA]->data, step_adds(s, NORM_BWD_DBETA));
    sum_over_images(g.sums + a.q.c, a.q.n, a.q.c, s->out[NORM_BWD_DGAMMA]->data, step_adds(s, NORM_BWD_DGAMMA));
    sum_over_pixels(s, NORM_BWD_DX, NORM_BWD_DBIAS);
    sum_over_pixels(s, NORM_BWD_DX2, NORM_BWD_DBIAS2);
    sum_over_pixels(s, NORM_BWD_DX, NORM_BWD_DBIAS_TWIN);
    sum_over_pixels(s, NORM_BWD_DX2, NORM_BWD_DBIAS2_TWIN);
    return DDPM_OK;
}

const cpu_op cpu_norm_act = {norm_act_prepare, norm_act_run, NULL};
const cpu_op cpu_norm_act_bwd = {norm_act_bwd_prepare, norm_act_bwd_run, NULL};
