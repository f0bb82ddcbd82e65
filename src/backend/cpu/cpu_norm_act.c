/* cpu_norm_act.c - group normalization (+ SiLU) over one or two NHWC sources, forward and backward.
 *
 * The work is cut into (image, range of whole groups); a range's channels are walked pixel by pixel,
 * so that loads are contiguous and a 32x32 image stays in the L2 cache between passes.  Statistics
 * take two passes (mean, then squared deviations) with f32 sums over blocks of 32 pixels added up
 * in f64.  No result depends on how the work is cut. */
#include "backend/cpu/cpu_backend.h"
#include "math/elementary.h"

#include <math.h>
#include <string.h>

enum {
    RANGE = 64,       /* channels a range aims at */
    RANGE_MAX = 4096, /* channels of the widest group */
    BLOCK = 32        /* pixels summed in f32 */
};

typedef struct norm_shape {
    int64_t n, hw, c, c1; /* c1: channels of the first source */
    int groups;
    int64_t per_group; /* channels */
    int64_t range;     /* channels of a range: whole groups */
    int ranges;
} norm_shape;

static norm_shape shape_of(const tensor *x, const tensor *x2, int groups)
{
    norm_shape q = {.n = x->n, .hw = tensor_hw(x), .c1 = x->c, .c = x->c + (x2 ? x2->c : 0), .groups = groups};
    q.per_group = q.c / groups;
    const int64_t groups_a_range = q.per_group >= RANGE ? 1 : RANGE / q.per_group;
    q.range = groups_a_range * q.per_group;
    q.ranges = (int)((q.c + q.range - 1) / q.range);
    return q;
}

static ddpm_status check(const tensor *x, const tensor *x2, int groups, err *e)
{
    const norm_shape q = shape_of(x, x2, groups);
    if (q.range > RANGE_MAX)
        return err_set(e, DDPM_EINVAL, "%lld channels a group; at most %d", (long long)q.per_group, RANGE_MAX);
    return DDPM_OK;
}

/* One range of one image: `width` channels from `from`, a run of which lies in either source. */
typedef struct view {
    const float *part[2];    /* the first channel of the run in its source */
    int64_t ld[2], width[2]; /* elements a pixel; channels of the run (0: none) */
} view;

static view view_of(const norm_shape *q, const float *x, const float *x2, int64_t image, int64_t from, int64_t width)
{
    view v = {{NULL, NULL}, {q->c1, q->c - q->c1}, {0, 0}};
    const int64_t end = from + width;
    if (from < q->c1) {
        v.width[0] = (end < q->c1 ? end : q->c1) - from;
        v.part[0] = x + image * q->hw * v.ld[0] + from;
    }
    v.width[1] = width - v.width[0];
    if (v.width[1] > 0) v.part[1] = x2 + image * q->hw * v.ld[1] + (from > q->c1 ? from - q->c1 : 0);
    return v;
}

/* to[width] = the channels of pixel i, plus cond where there is one */
static inline void load(const view *v, int64_t i, const float *cond, float *restrict to)
{
    int64_t at = 0;
    for (int k = 0; k < 2; k++) {
        if (v->width[k] == 0) continue;
        const float *from = v->part[k] + i * v->ld[k];
        if (cond) {
#pragma omp simd
            for (int64_t c = 0; c < v->width[k]; c++) to[at + c] = from[c] + cond[at + c];
        } else {
            memcpy(to + at, from, (size_t)v->width[k] * sizeof *to);
        }
        at += v->width[k];
    }
}

/* totals[width] = sum over pixels of (x - mean[c])^power, power 1 (mean 0) or 2 */
static void moment(const view *v, int64_t hw, const float *cond, const float *mean, int64_t width, double *totals)
{
    float x[RANGE_MAX], part[RANGE_MAX];
    memset(totals, 0, (size_t)width * sizeof *totals);
    for (int64_t block = 0; block < hw; block += BLOCK) {
        const int64_t end = block + BLOCK < hw ? block + BLOCK : hw;
        memset(part, 0, (size_t)width * sizeof *part);
        for (int64_t i = block; i < end; i++) {
            load(v, i, cond, x);
            if (mean) {
#pragma omp simd
                for (int64_t c = 0; c < width; c++) part[c] += (x[c] - mean[c]) * (x[c] - mean[c]);
            } else {
#pragma omp simd
                for (int64_t c = 0; c < width; c++) part[c] += x[c];
            }
        }
        for (int64_t c = 0; c < width; c++) totals[c] += (double)part[c];
    }
}

/* per_channel[width] = the mean over its group of totals; also to[groups of the range] */
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
    const float *x, *x2, *gamma, *beta, *cond;
    int64_t cond_ld;
    norm_cond kind;
    bool silu;
    float eps;
} norm_args;

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

static const float *addend(const norm_args *a, int64_t image, int64_t from)
{
    return a->kind == COND_ADD ? a->cond + image * a->cond_ld + from : NULL;
}

static inline float sigmoid(float z) { return 1.0f / (1.0f + exp_f32(-z)); }

static void forward_range(const norm_args *a, int64_t image, int64_t from, float *y, float *mean_out, float *rstd_out)
{
    const norm_shape *q = &a->q;
    const int64_t width = from + q->range < q->c ? q->range : q->c - from, group0 = from / q->per_group;
    const view v = view_of(q, a->x, a->x2, image, from, width);
    const float *cond = addend(a, image, from);
    double totals[RANGE_MAX], group_mean[RANGE_MAX], group_var[RANGE_MAX];
    float mean[RANGE_MAX], scale[RANGE_MAX], shift[RANGE_MAX], x[RANGE_MAX];

    moment(&v, q->hw, cond, NULL, width, totals);
    spread_group_means(q, totals, width, group_mean);
    for (int64_t c = 0; c < width; c++) mean[c] = (float)group_mean[c / q->per_group];
    moment(&v, q->hw, cond, mean, width, totals);
    spread_group_means(q, totals, width, group_var);

    channel_affine(a, image, from, width, scale, shift);
    for (int64_t c = 0; c < width; c++) {
        const int64_t g = c / q->per_group;
        const float rstd = (float)(1.0 / sqrt(group_var[g] + (double)a->eps));
        mean_out[image * q->groups + group0 + g] = mean[c];
        rstd_out[image * q->groups + group0 + g] = rstd;
        scale[c] *= rstd;
    }
    for (int64_t i = 0; i < q->hw; i++) {
        float *to = y + (image * q->hw + i) * q->c + from;
        load(&v, i, cond, x);
        if (a->silu) {
#pragma omp simd
            for (int64_t c = 0; c < width; c++) {
                const float z = (x[c] - mean[c]) * scale[c] + shift[c];
                to[c] = z * sigmoid(z);
            }
        } else {
#pragma omp simd
            for (int64_t c = 0; c < width; c++) to[c] = (x[c] - mean[c]) * scale[c] + shift[c];
        }
    }
}

static norm_args unpack_forward(const step *s)
{
    const tensor *cond = s->in[NORM_COND];
    return (norm_args){.q = shape_of(s->in[NORM_X], s->in[NORM_X2], s->a.norm.groups),
                       .x = s->in[NORM_X]->data,
                       .x2 = cpu_data(s->in[NORM_X2]),
                       .gamma = s->in[NORM_GAMMA]->data,
                       .beta = s->in[NORM_BETA]->data,
                       .cond = cpu_data(cond),
                       .cond_ld = cond ? tensor_ld(cond) : 0,
                       .kind = s->a.norm.cond,
                       .silu = s->a.norm.silu,
                       .eps = s->a.norm.eps};
}

static ddpm_status norm_act_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    (void)be, (void)scratch;
    return check(s->in[NORM_X], s->in[NORM_X2], s->a.norm.groups, e);
}

static ddpm_status norm_act_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const norm_args a = unpack_forward(s);
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t image = 0; image < a.q.n; image++)
        for (int r = 0; r < a.q.ranges; r++)
            forward_range(&a, image, r * a.q.range, s->out[NORM_Y]->data, s->out[NORM_MEAN]->data,
                          s->out[NORM_RSTD]->data);
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
    const float *dy, *mean, *rstd;
    float *dx, *dx2; /* NULL: not wanted */
    bool add, add2;
    float *dcond;
    int64_t dcond_ld;
    bool add_cond;
    float *sums; /* [n][2][c]: S1 and S2 (times 1 + scale), for dgamma and dbeta */
} norm_grads;

typedef struct range_data {
    view v;
    int64_t image, from, width;
    const float *cond;
    float mean[RANGE_MAX], rstd[RANGE_MAX], scale[RANGE_MAX], shift[RANGE_MAX];
} range_data;

/* xhat[width] and dz[width] of pixel i */
static inline void recompute(const norm_args *a, const norm_grads *g, const range_data *r, int64_t i,
                             float *restrict xhat, float *restrict dz)
{
    const float *dy = g->dy + (r->image * a->q.hw + i) * a->q.c + r->from;
    load(&r->v, i, r->cond, xhat);
#pragma omp simd
    for (int64_t c = 0; c < r->width; c++) xhat[c] = (xhat[c] - r->mean[c]) * r->rstd[c];
    if (!a->silu) {
        memcpy(dz, dy, (size_t)r->width * sizeof *dz);
        return;
    }
#pragma omp simd
    for (int64_t c = 0; c < r->width; c++) {
        const float z = xhat[c] * r->scale[c] + r->shift[c], sig = sigmoid(z);
        dz[c] = dy[c] * sig * (1 + z * (1 - sig));
    }
}

static void channel_sums(const norm_args *a, const norm_grads *g, const range_data *r, double *s1, double *s2)
{
    float xhat[RANGE_MAX], dz[RANGE_MAX], p1[RANGE_MAX], p2[RANGE_MAX];
    memset(s1, 0, (size_t)r->width * sizeof *s1);
    memset(s2, 0, (size_t)r->width * sizeof *s2);
    for (int64_t block = 0; block < a->q.hw; block += BLOCK) {
        const int64_t end = block + BLOCK < a->q.hw ? block + BLOCK : a->q.hw;
        memset(p1, 0, (size_t)r->width * sizeof *p1);
        memset(p2, 0, (size_t)r->width * sizeof *p2);
        for (int64_t i = block; i < end; i++) {
            recompute(a, g, r, i, xhat, dz);
#pragma omp simd
            for (int64_t c = 0; c < r->width; c++) p1[c] += dz[c], p2[c] += dz[c] * xhat[c];
        }
        for (int64_t c = 0; c < r->width; c++) s1[c] += (double)p1[c], s2[c] += (double)p2[c];
    }
}

static void store(const float *from, float *to, int64_t width, bool add)
{
    if (add) {
#pragma omp simd
        for (int64_t c = 0; c < width; c++) to[c] += from[c];
    } else {
        memcpy(to, from, (size_t)width * sizeof *to);
    }
}

/* dx of every pixel of the range, and its sum over pixels where the addend's gradient is wanted */
static void write_dx(const norm_args *a, const norm_grads *g, const range_data *r, const double *m1, const double *m2,
                     double *dx_sums)
{
    const norm_shape *q = &a->q;
    float xhat[RANGE_MAX], dz[RANGE_MAX], c1[RANGE_MAX], c2[RANGE_MAX], part[RANGE_MAX];
    for (int64_t c = 0; c < r->width; c++) c1[c] = (float)m1[c / q->per_group], c2[c] = (float)m2[c / q->per_group];
    memset(dx_sums, 0, (size_t)r->width * sizeof *dx_sums);
    for (int64_t block = 0; block < q->hw; block += BLOCK) {
        const int64_t end = block + BLOCK < q->hw ? block + BLOCK : q->hw;
        memset(part, 0, (size_t)r->width * sizeof *part);
        for (int64_t i = block; i < end; i++) {
            recompute(a, g, r, i, xhat, dz);
#pragma omp simd
            for (int64_t c = 0; c < r->width; c++) {
                dz[c] = r->rstd[c] * (r->scale[c] * dz[c] - c1[c] - xhat[c] * c2[c]);
                part[c] += dz[c];
            }
            const int64_t w1 = r->v.width[0], w2 = r->v.width[1], pixel = r->image * q->hw + i;
            if (w1 && g->dx) store(dz, g->dx + pixel * q->c1 + r->from, w1, g->add);
            if (w2 && g->dx2)
                store(dz + w1, g->dx2 + pixel * (q->c - q->c1) + (r->from > q->c1 ? r->from - q->c1 : 0), w2, g->add2);
        }
        for (int64_t c = 0; c < r->width; c++) dx_sums[c] += (double)part[c];
    }
}

static void write_dcond(const norm_args *a, const norm_grads *g, const range_data *r, const double *s1,
                        const double *s2, const double *dx_sums)
{
    float *to = g->dcond + r->image * g->dcond_ld + r->from;
    for (int64_t c = 0; c < r->width; c++) {
        const float old = g->add_cond ? to[c] : 0;
        if (a->kind == COND_ADD) {
            to[c] = old + (float)dx_sums[c];
            continue;
        }
        const float old_shift = g->add_cond ? to[a->q.c + c] : 0;
        to[c] = old + (float)((double)a->gamma[r->from + c] * s2[c] + (double)a->beta[r->from + c] * s1[c]);
        to[a->q.c + c] = old_shift + (float)s1[c];
    }
}

static void backward_range(const norm_args *a, const norm_grads *g, int64_t image, int64_t from)
{
    const norm_shape *q = &a->q;
    range_data r = {.image = image, .from = from, .width = from + q->range < q->c ? q->range : q->c - from};
    double s1[RANGE_MAX], s2[RANGE_MAX], gs1[RANGE_MAX], gs2[RANGE_MAX], m1[RANGE_MAX], m2[RANGE_MAX];
    r.v = view_of(q, a->x, a->x2, image, from, r.width);
    r.cond = addend(a, image, from);
    channel_affine(a, image, from, r.width, r.scale, r.shift);
    for (int64_t c = 0; c < r.width; c++) {
        const int64_t group = image * q->groups + (from + c) / q->per_group;
        r.mean[c] = g->mean[group], r.rstd[c] = g->rstd[group];
    }
    channel_sums(a, g, &r, s1, s2);
    for (int64_t c = 0; c < r.width; c++) {
        const float up = a->kind == COND_SCALE_SHIFT ? 1 + a->cond[image * a->cond_ld + from + c] : 1;
        gs1[c] = (double)r.scale[c] * s1[c], gs2[c] = (double)r.scale[c] * s2[c];
        g->sums[(image * 2 + 0) * q->c + from + c] = (float)(s1[c] * (double)up);
        g->sums[(image * 2 + 1) * q->c + from + c] = (float)(s2[c] * (double)up);
    }
    spread_group_means(q, gs1, r.width, m1);
    spread_group_means(q, gs2, r.width, m2);
    if (g->dx || g->dx2 || (g->dcond && a->kind == COND_ADD)) write_dx(a, g, &r, m1, m2, gs1);
    if (g->dcond) write_dcond(a, g, &r, s1, s2, gs1);
}

static ddpm_status norm_act_bwd_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    (void)be;
    const tensor *dy = s->in[NORM_BWD_DY];
    *scratch = (size_t)(dy->n * 2 * dy->c) * sizeof(float);
    return check(s->in[NORM_BWD_X], s->in[NORM_BWD_X2], s->a.norm.groups, e);
}

static void sum_over_images(const float *sums, int64_t n, int64_t c, float *to, bool add)
{
    for (int64_t i = 0; i < c; i++) {
        double total = 0;
        for (int64_t image = 0; image < n; image++) total += (double)sums[image * 2 * c + i];
        to[i] = (add ? to[i] : 0) + (float)total;
    }
}

static ddpm_status norm_act_bwd_run(cpu_backend *be, const step *s, err *e)
{
    (void)be, (void)e;
    const tensor *cond = s->in[NORM_BWD_COND], *dcond = s->out[NORM_BWD_DCOND];
    const norm_args a = {.q = shape_of(s->in[NORM_BWD_X], s->in[NORM_BWD_X2], s->a.norm.groups),
                         .x = s->in[NORM_BWD_X]->data,
                         .x2 = cpu_data(s->in[NORM_BWD_X2]),
                         .gamma = s->in[NORM_BWD_GAMMA]->data,
                         .beta = s->in[NORM_BWD_BETA]->data,
                         .cond = cpu_data(cond),
                         .cond_ld = cond ? tensor_ld(cond) : 0,
                         .kind = s->a.norm.cond,
                         .silu = s->a.norm.silu,
                         .eps = s->a.norm.eps};
    const norm_grads g = {.dy = s->in[NORM_BWD_DY]->data,
                          .mean = s->in[NORM_BWD_MEAN]->data,
                          .rstd = s->in[NORM_BWD_RSTD]->data,
                          .dx = cpu_data(s->out[NORM_BWD_DX]),
                          .dx2 = cpu_data(s->out[NORM_BWD_DX2]),
                          .add = step_adds(s, NORM_BWD_DX),
                          .add2 = step_adds(s, NORM_BWD_DX2),
                          .dcond = cpu_data(dcond),
                          .dcond_ld = dcond ? tensor_ld(dcond) : 0,
                          .add_cond = step_adds(s, NORM_BWD_DCOND),
                          .sums = s->scratch->data};
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t image = 0; image < a.q.n; image++)
        for (int r = 0; r < a.q.ranges; r++) backward_range(&a, &g, image, r * a.q.range);
    sum_over_images(g.sums, a.q.n, a.q.c, s->out[NORM_BWD_DBETA]->data, step_adds(s, NORM_BWD_DBETA));
    sum_over_images(g.sums + a.q.c, a.q.n, a.q.c, s->out[NORM_BWD_DGAMMA]->data, step_adds(s, NORM_BWD_DGAMMA));
    return DDPM_OK;
}

const cpu_op cpu_norm_act = {norm_act_prepare, norm_act_run, NULL};
const cpu_op cpu_norm_act_bwd = {norm_act_bwd_prepare, norm_act_bwd_run, NULL};
