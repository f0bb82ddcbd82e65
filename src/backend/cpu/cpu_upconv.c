/* cpu_upconv.c - nearest x2 and a 3x3 convolution.
 *
 * In NHWC as one 4x4 stride-2 transposed convolution: the backward-data pass of a convolution C that maps
 * the large image [2h, 2w, cout] to the small one [h, w, cin]; so its gradients are C's forward pass (dx)
 * and C's backward-weights pass (dK).  K [cin, 4, 4, cout] is folded from the 3x3 filter W
 * [cout, 3, 3, cin] (kernels/upconv_fold.h).
 * In blocks of channels as the two operations that it stands for: 2.25 times the multiplications, of which
 * Winograd's algorithm, which knows no stride, saves more. */
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/cpu_layout.h"
#include "core/mem.h"
#include "upconv_fold.h"

enum { SMALL = 3, LARGE = 4, TILE = 16 };

typedef struct upconv {
    dnn_conv *conv;
    staged small, large;
    tensor_layout layout; /* the kernel's: blocked means two operations */
    float *frozen;        /* K where the weights seldom change */
    uint64_t version;     /* of what K was folded from */
    size_t own;           /* in the scratch: K where they do, or dK; blocked: the enlarged x, or its gradient */
    size_t scratch;       /* oneDNN's */
} upconv;

static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

/* Channels [co, co + TILE) x [ci, ci + TILE) of the filters; co runs fastest in the tile. */
typedef struct filter_tile {
    int64_t co, ci, wide, deep; /* first ones, and how many there are */
} filter_tile;

static filter_tile tile_at(int64_t index, int64_t cin, int64_t cout)
{
    const int64_t across = (cin + TILE - 1) / TILE;
    filter_tile t = {.co = index / across * TILE, .ci = index % across * TILE};
    t.wide = smaller(TILE, cout - t.co), t.deep = smaller(TILE, cin - t.ci);
    return t;
}
static int64_t tiles_of(int64_t cin, int64_t cout) { return (cin + TILE - 1) / TILE * ((cout + TILE - 1) / TILE); }

static void fold_tile(const filter_tile *t, const float *w, float *k, int64_t cin, int64_t cout)
{
    float in[SMALL * SMALL][TILE][TILE] = {{{0}}};
    for (int64_t co = 0; co < t->wide; co++)
        for (int tap = 0; tap < SMALL * SMALL; tap++)
            for (int64_t ci = 0; ci < t->deep; ci++)
                in[tap][ci][co] = w[((t->co + co) * SMALL * SMALL + tap) * cin + t->ci + ci];
    for (int64_t ci = 0; ci < t->deep; ci++) {
        float out[LARGE * LARGE][TILE];
#pragma omp simd
        for (int co = 0; co < TILE; co++) {
            float columns[SMALL][LARGE]; /* (A W) by columns */
            for (int j = 0; j < SMALL; j++)
                fold_up((const float[]){in[j][ci][co], in[SMALL + j][ci][co], in[2 * SMALL + j][ci][co]}, columns[j]);
            for (int i = 0; i < LARGE; i++) {
                float row[LARGE];
                fold_up((const float[]){columns[0][i], columns[1][i], columns[2][i]}, row);
                for (int j = 0; j < LARGE; j++) out[i * LARGE + j][co] = row[j];
            }
        }
        for (int tap = 0; tap < LARGE * LARGE; tap++)
            for (int64_t co = 0; co < t->wide; co++)
                k[((t->ci + ci) * LARGE * LARGE + tap) * cout + t->co + co] = out[tap][co];
    }
}

static void fold_filter(const float *w, float *k, int64_t cin, int64_t cout)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < tiles_of(cin, cout); i++) {
        const filter_tile t = tile_at(i, cin, cout);
        fold_tile(&t, w, k, cin, cout);
    }
}

static void unfold_tile(const filter_tile *t, const float *dk, float *dw, int64_t cin, int64_t cout, bool add)
{
    float out[SMALL * SMALL][TILE][TILE];
    for (int64_t ci = 0; ci < t->deep; ci++)
        for (int64_t co = 0; co < t->wide; co++) {
            const float *k = dk + (t->ci + ci) * LARGE * LARGE * cout + t->co + co;
            float columns[LARGE][SMALL]; /* (A^T dK) by columns */
            for (int j = 0; j < LARGE; j++)
                fold_down((const float[]){k[j * cout], k[(LARGE + j) * cout], k[(2 * LARGE + j) * cout],
                                          k[(3 * LARGE + j) * cout]},
                          columns[j]);
            for (int i = 0; i < SMALL; i++) {
                float row[SMALL];
                fold_down((const float[]){columns[0][i], columns[1][i], columns[2][i], columns[3][i]}, row);
                for (int j = 0; j < SMALL; j++) out[i * SMALL + j][co][ci] = row[j];
            }
        }
    for (int64_t co = 0; co < t->wide; co++)
        for (int tap = 0; tap < SMALL * SMALL; tap++)
            for (int64_t ci = 0; ci < t->deep; ci++) {
                float *to = &dw[((t->co + co) * SMALL * SMALL + tap) * cin + t->ci + ci];
                *to = (add ? *to : 0.0f) + out[tap][co][ci];
            }
}

static void unfold_gradient(const float *dk, float *dw, int64_t cin, int64_t cout, bool add)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < tiles_of(cin, cout); i++) {
        const filter_tile t = tile_at(i, cin, cout);
        unfold_tile(&t, dk, dw, cin, cout, add);
    }
}

/* Planes of [h, w, CHANNEL_BLOCK] in x, of twice that in y: each pixel becomes four. */
static void enlarge(const tensor *t, const float *x, float *y)
{
    const int64_t planes = t->n * t->c / CHANNEL_BLOCK, row = 2 * t->w * CHANNEL_BLOCK;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t plane = 0; plane < planes; plane++)
        for (int64_t h = 0; h < t->h; h++) {
            const float *from = x + (plane * t->h + h) * t->w * CHANNEL_BLOCK;
            float *to = y + (plane * t->h + h) * 2 * row;
            for (int64_t w = 0; w < t->w; w++)
                for (int c = 0; c < CHANNEL_BLOCK; c++) {
                    const float v = from[w * CHANNEL_BLOCK + c];
                    to[2 * w * CHANNEL_BLOCK + c] = to[(2 * w + 1) * CHANNEL_BLOCK + c] = v;
                    to[row + 2 * w * CHANNEL_BLOCK + c] = to[row + (2 * w + 1) * CHANNEL_BLOCK + c] = v;
                }
        }
}

/* Its gradient: four pixels of y add up to one of x. */
static void shrink(const tensor *t, float *x, const float *y)
{
    const int64_t planes = t->n * t->c / CHANNEL_BLOCK, row = 2 * t->w * CHANNEL_BLOCK;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t plane = 0; plane < planes; plane++)
        for (int64_t h = 0; h < t->h; h++) {
            float *to = x + (plane * t->h + h) * t->w * CHANNEL_BLOCK;
            const float *from = y + (plane * t->h + h) * 2 * row;
            for (int64_t w = 0; w < t->w; w++)
                for (int c = 0; c < CHANNEL_BLOCK; c++) {
                    const float *left = from + 2 * w * CHANNEL_BLOCK + c, *right = left + CHANNEL_BLOCK;
                    to[w * CHANNEL_BLOCK + c] = (left[0] + right[0]) + (left[row] + right[row]);
                }
        }
}

static size_t rounded(size_t floats) { return (floats * sizeof(float) + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN; }

static dnn_conv_spec folded_spec(dnn_pass pass, const tensor *small, const tensor *large)
{
    static const dnn_pass mirrored[] = {[DNN_FORWARD] = DNN_BACKWARD_DATA,
                                        [DNN_BACKWARD_DATA] = DNN_FORWARD,
                                        [DNN_BACKWARD_WEIGHTS] = DNN_BACKWARD_WEIGHTS};
    return (dnn_conv_spec){.pass = mirrored[pass],
                           .n = large->n,
                           .h = large->h,
                           .w = large->w,
                           .cin = large->c,
                           .oh = small->h,
                           .ow = small->w,
                           .cout = small->c,
                           .kernel = LARGE,
                           .stride = 2,
                           .pad_begin = 1,
                           .pad_end = 1};
}

static dnn_conv_spec plain_spec(const step *s, dnn_pass pass, const tensor *small, const tensor *large)
{
    dnn_conv_spec spec = {.pass = pass,
                          .n = large->n,
                          .h = large->h,
                          .w = large->w,
                          .cin = small->c,
                          .oh = large->h,
                          .ow = large->w,
                          .cout = large->c,
                          .kernel = SMALL,
                          .stride = 1,
                          .pad_begin = 1,
                          .pad_end = 1,
                          .blocked = true};
    spec.bias = pass == DNN_FORWARD || (pass == DNN_BACKWARD_WEIGHTS && s->out[UPCONV_DW_DBIAS]);
    spec.add = pass == DNN_BACKWARD_WEIGHTS && step_adds(s, UPCONV_DW_DW);
    spec.add_bias = pass == DNN_BACKWARD_WEIGHTS && step_adds(s, UPCONV_DW_DBIAS);
    return spec;
}

static ddpm_status prepare(cpu_backend *be, step *s, dnn_pass pass, const tensor *small, const tensor *large,
                           const tensor *w, size_t *scratch, err *e)
{
    const bool whole = small->c % CHANNEL_BLOCK == 0 && large->c % CHANNEL_BLOCK == 0,
               any = small->layout == LAYOUT_BLOCKED || large->layout == LAYOUT_BLOCKED,
               frozen = pass != DNN_BACKWARD_WEIGHTS && !w->grad;
    const size_t filter = rounded((size_t)(w->n * LARGE * LARGE * w->c));
    upconv *u = NULL;
    size_t bytes = 0;
    TRY(mem_array(&u, 1, sizeof *u, "upconv", e));
    s->impl = u;
    u->layout = whole && any ? LAYOUT_BLOCKED : LAYOUT_NHWC;
    u->small = stage(small, u->layout, pass == DNN_BACKWARD_DATA && step_adds(s, UPCONV_DX_DX), scratch);
    u->large = stage(large, u->layout, false, scratch);
    dnn_conv_spec spec =
        u->layout == LAYOUT_BLOCKED ? plain_spec(s, pass, small, large) : folded_spec(pass, small, large);
    spec.frozen = frozen;
    u->own = *scratch;
    if (u->layout == LAYOUT_BLOCKED)
        *scratch += rounded((size_t)(4 * tensor_count(small)));
    else if (frozen)
        TRY(mem_array(&u->frozen, filter, 1, "upconv", e));
    else
        *scratch += filter;
    u->scratch = *scratch;
    TRY(cpu_conv_create(be, &spec, &u->conv, &bytes, e));
    *scratch += bytes;
    return DDPM_OK;
}

static void upconv_release(step *s)
{
    upconv *u = s->impl;
    if (!u) return;
    dnn_conv_destroy(u->conv);
    mem_free(u->frozen);
    mem_free(u);
    s->impl = NULL;
}

static float *scratch_at(const step *s, size_t at)
{
    return s->scratch ? (float *)(void *)((char *)s->scratch->data + at) : NULL;
}

static const float *folded(const step *s, const tensor *w)
{
    upconv *u = s->impl;
    const uint64_t version = cpu_version(w);
    float *filter = u->frozen ? u->frozen : scratch_at(s, u->own);
    if (!u->frozen || version == 0 || version != u->version) fold_filter(w->data, filter, w->c, w->n);
    u->version = version;
    return filter;
}

static ddpm_status run_conv(const step *s, dnn_conv_args a, err *e)
{
    const upconv *u = s->impl;
    a.scratch = scratch_at(s, u->scratch);
    return dnn_conv_run(u->conv, &a, e);
}

/* ---- forward ---- */

static ddpm_status upconv_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, DNN_FORWARD, s->in[UPCONV_X], s->out[UPCONV_Y], s->in[UPCONV_W], scratch, e);
}

static ddpm_status upconv_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const upconv *u = s->impl;
    const tensor *x = s->in[UPCONV_X], *w = s->in[UPCONV_W], *y = s->out[UPCONV_Y];
    const float *small = stage_read(&u->small, s), *bias = s->in[UPCONV_BIAS]->data;
    float *large = stage_write(&u->large, s), *own = scratch_at(s, u->own);
    dnn_conv_args a = {.src = own, .dst = large, .filter = w->data, .bias = bias, .version = cpu_version(w)};
    if (u->layout == LAYOUT_BLOCKED)
        enlarge(x, small, own);
    else
        a.src = large, a.dst = small, a.filter = folded(s, w);
    TRY(run_conv(s, a, e));
    if (u->layout == LAYOUT_NHWC) cpu_add_bias(large, y->n * tensor_hw(y), y->c, bias);
    stage_done(&u->large, s);
    return DDPM_OK;
}

/* ---- gradient of the input ---- */

static ddpm_status upconv_dx_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, DNN_BACKWARD_DATA, s->out[UPCONV_DX_DX], s->in[UPCONV_DX_DY], s->in[UPCONV_DX_W], scratch, e);
}

static ddpm_status upconv_dx_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const upconv *u = s->impl;
    const tensor *w = s->in[UPCONV_DX_W];
    const float *large = stage_read(&u->large, s);
    float *small = stage_write(&u->small, s), *own = scratch_at(s, u->own);
    dnn_conv_args a = {.src = own, .dst = large, .filter = w->data, .version = cpu_version(w)};
    if (u->layout == LAYOUT_NHWC) a.src = large, a.dst = small, a.filter = folded(s, w);
    TRY(run_conv(s, a, e));
    if (u->layout == LAYOUT_BLOCKED) shrink(s->out[UPCONV_DX_DX], small, own);
    stage_done(&u->small, s);
    return DDPM_OK;
}

/* ---- gradient of the weights ---- */

static ddpm_status upconv_dw_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, DNN_BACKWARD_WEIGHTS, s->in[UPCONV_DW_X], s->in[UPCONV_DW_DY], s->out[UPCONV_DW_DW], scratch,
                   e);
}

static ddpm_status upconv_dw_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const upconv *u = s->impl;
    const tensor *x = s->in[UPCONV_DW_X], *dy = s->in[UPCONV_DW_DY], *dw = s->out[UPCONV_DW_DW];
    const tensor *dbias = s->out[UPCONV_DW_DBIAS];
    const float *small = stage_read(&u->small, s), *large = stage_read(&u->large, s);
    float *own = scratch_at(s, u->own);
    if (u->layout == LAYOUT_BLOCKED) {
        enlarge(x, small, own);
        return run_conv(s, (dnn_conv_args){.src = own, .dst = large, .filter = dw->data, .bias = cpu_data(dbias)}, e);
    }
    TRY(run_conv(s, (dnn_conv_args){.src = large, .dst = small, .filter = own}, e));
    unfold_gradient(own, dw->data, x->c, dy->c, step_adds(s, UPCONV_DW_DW));
    if (dbias) cpu_column_sums(large, dy->n * tensor_hw(dy), dy->c, step_adds(s, UPCONV_DW_DBIAS), dbias->data);
    return DDPM_OK;
}

const cpu_op cpu_upconv = {upconv_prepare, upconv_run, upconv_release};
const cpu_op cpu_upconv_dx = {upconv_dx_prepare, upconv_dx_run, upconv_release};
const cpu_op cpu_upconv_dw = {upconv_dw_prepare, upconv_dw_run, upconv_release};
