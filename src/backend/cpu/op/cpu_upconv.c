/* cpu_upconv.c - nearest x2 upsampling and a 3x3 convolution.
 *
 * There are two algorithms.  Winograd computes the 3x3 convolution of the upsampled image, reading each pixel of the
 * small image four times (cpu_winograd.h).  If autotuning finds it faster (cpu_conv_autotune.h), or if channels do
 * not fill blocks, a single 4x4 transposed convolution of stride 2 replaces both operations: it is the backward-data
 * pass of a convolution C from the large image [2h, 2w, cout] to the small one [h, w, cin].  Its gradients are C's
 * forward pass (dx) and C's backward-weights pass (dK).  K [cin, 4, 4, cout] is folded from the 3x3 filter W [cout,
 * 3, 3, cin] (kernels/upconv_fold.h). */
#include "backend/cpu/cpu_backend.h"
#include "base/arith.h"
#include "backend/cpu/lib/cpu_layout.h"
#include "backend/cpu/conv/cpu_winograd.h"
#include "base/mem.h"
#include "upconv_fold.h"

enum { SMALL = 3, LARGE = 4, TILE = 16 };

typedef struct upconv {
    bool is_tiled; /* computed by Winograd; only `tiled` is set then */
    winograd_spec tiled;
    onednn_conv *conv;
    staged small, large;
    float *frozen;    /* K if the weights seldom change; else NULL */
    uint64_t version; /* version of the weights that K was folded from */
    size_t own;       /* offset in the workspace of K, if it is not kept, or of dK */
    size_t scratch;   /* offset of oneDNN's workspace */
} upconv;

/* Channels [co, co + TILE) x [ci, ci + TILE) of the filters; co varies fastest in the tile. */
typedef struct filter_tile {
    int64_t co, ci, wide, deep; /* first channels, and their numbers */
} filter_tile;

static filter_tile tile_at(int64_t index, int64_t cin, int64_t cout)
{
    const int64_t across = ceil_div(cin, TILE);
    filter_tile t = {.co = index / across * TILE, .ci = index % across * TILE};
    t.wide = min_i64(TILE, cout - t.co), t.deep = min_i64(TILE, cin - t.ci);
    return t;
}
static int64_t tiles_of(int64_t cin, int64_t cout) { return ceil_div(cin, TILE) * ceil_div(cout, TILE); }

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
            float columns[SMALL][LARGE]; /* columns of A W */
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
            float columns[LARGE][SMALL]; /* columns of A^T dK */
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

static ddpm_status prepare_tiled(cpu_backend *be, upconv *u, const conv_candidates *ways, size_t *scratch, err *e)
{
    if (!winograd_takes(ways->winograd.shape.cin, ways->winograd.shape.cout)) return DDPM_OK;
    TRY(conv_autotune_choose(be->autotune, be->onednn, ways, &u->is_tiled, e));
    u->tiled = ways->winograd;
    if (u->is_tiled) *scratch = winograd_scratch(&u->tiled);
    return DDPM_OK;
}

static ddpm_status prepare(cpu_backend *be, step *s, conv_pass pass, const tensor *small, const tensor *large,
                           const tensor *w, size_t *scratch, err *e)
{
    const bool whole = small->c % CHANNEL_BLOCK == 0 && large->c % CHANNEL_BLOCK == 0,
               any = small->layout == LAYOUT_BLOCKED || large->layout == LAYOUT_BLOCKED,
               frozen = pass != CONV_PASS_BACKWARD_WEIGHTS && !w->grad;
    const size_t filter = round_up_size((size_t)(w->n * LARGE * LARGE * w->c) * sizeof(float), MEM_ALIGN);
    const tensor_layout layout = whole && any ? LAYOUT_BLOCKED : LAYOUT_NHWC;
    upconv *u = NULL;
    size_t bytes = 0;
    TRY(mem_array(&u, 1, sizeof *u, "upconv", e));
    s->impl = u;
    conv_candidates ways = {
        .direct = {.shape = conv_shape_of_fold(pass, small, large),
                   .blocked = layout == LAYOUT_BLOCKED,
                   .frozen = frozen},
        .winograd = {.shape = conv_shape_of_upconv(pass, small, large), .enlarged = true, .threads = be->threads}};
    TRY(prepare_tiled(be, u, &ways, scratch, e));
    if (u->is_tiled) return DDPM_OK;
    u->small = stage(small, layout, pass == CONV_PASS_BACKWARD_DATA && step_adds(s, UPCONV_DX_DX), scratch);
    u->large = stage(large, layout, false, scratch);
    u->own = *scratch;
    if (frozen)
        TRY(mem_array(&u->frozen, filter, 1, "upconv", e));
    else
        *scratch += filter;
    u->scratch = *scratch;
    ways.direct.frozen = false; /* K is cached here, so the primitive needs no packed copy */
    TRY(onednn_conv_create(be->onednn, &ways.direct, &u->conv, &bytes, e));
    *scratch += bytes;
    return DDPM_OK;
}

static void upconv_release(step *s)
{
    upconv *u = s->impl;
    if (!u) return;
    onednn_conv_destroy(u->conv);
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

static ddpm_status run_conv(const step *s, onednn_conv_args a, err *e)
{
    const upconv *u = s->impl;
    a.scratch = scratch_at(s, u->scratch);
    return onednn_conv_run(u->conv, &a, e);
}

/* In a blocked layout, each plane of 16 channels is a matrix of its own. */
static void add_bias(const upconv *u, const tensor *y, float *data, const float *bias)
{
    const int64_t hw = tensor_hw(y), blocks = y->c / CHANNEL_BLOCK;
    if (u->large.layout == LAYOUT_NHWC) {
        cpu_add_bias(data, y->n * hw, y->c, bias);
        return;
    }
    for (int64_t i = 0; i < y->n * blocks; i++)
        cpu_add_bias(data + i * hw * CHANNEL_BLOCK, hw, CHANNEL_BLOCK, bias + i % blocks * CHANNEL_BLOCK);
}

static void sum_bias(const upconv *u, const tensor *dy, const float *data, bool add, float *dbias)
{
    const int64_t hw = tensor_hw(dy), blocks = dy->c / CHANNEL_BLOCK;
    if (u->large.layout == LAYOUT_NHWC) {
        cpu_column_sums(data, dy->n * hw, dy->c, add, dbias);
        return;
    }
    for (int64_t i = 0; i < dy->n * blocks; i++)
        cpu_column_sums(data + i * hw * CHANNEL_BLOCK, hw, CHANNEL_BLOCK, add || i >= blocks,
                        dbias + i % blocks * CHANNEL_BLOCK);
}

static void run_tiled(const step *s, winograd_args a)
{
    a.scratch = s->scratch->data;
    winograd_run(&((const upconv *)s->impl)->tiled, &a);
}

/* ---- the folded filter, as a step ---- */

static ddpm_status upconv_fold_run(cpu_backend *be, const step *s, err *e)
{
    const tensor *w = s->in[UPCONV_FOLD_W];
    fold_filter(w->data, s->out[UPCONV_FOLD_K]->data, w->c, w->n);
    return DDPM_OK;
}

/* ---- forward ---- */

static ddpm_status upconv_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, CONV_PASS_FORWARD, s->in[UPCONV_X], s->out[UPCONV_Y], s->in[UPCONV_W], scratch, e);
}

static ddpm_status upconv_run(cpu_backend *be, const step *s, err *e)
{
    const upconv *u = s->impl;
    const tensor *x = s->in[UPCONV_X], *w = s->in[UPCONV_W], *y = s->out[UPCONV_Y];
    float *bias = s->in[UPCONV_BIAS]->data;
    if (u->is_tiled) {
        run_tiled(s, (winograd_args){
                         .src = winograd_image_of(x), .dst = winograd_image_of(y), .filter = w->data, .bias = bias});
        return DDPM_OK;
    }
    const float *small = stage_read(&u->small, s);
    float *large = stage_write(&u->large, s);
    TRY(run_conv(s, (onednn_conv_args){.src = large, .dst = small, .filter = folded(s, w)}, e));
    add_bias(u, y, large, bias);
    stage_done(&u->large, s);
    return DDPM_OK;
}

/* ---- gradient of the input ---- */

static ddpm_status upconv_dx_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, CONV_PASS_BACKWARD_DATA, s->out[UPCONV_DX_DX], s->in[UPCONV_DX_DY], s->in[UPCONV_DX_W],
                   scratch, e);
}

static ddpm_status upconv_dx_run(cpu_backend *be, const step *s, err *e)
{
    const upconv *u = s->impl;
    const tensor *w = s->in[UPCONV_DX_W];
    if (u->is_tiled) {
        winograd_args a = {.src = winograd_image_of(s->out[UPCONV_DX_DX]),
                           .dst = winograd_image_of(s->in[UPCONV_DX_DY]),
                           .filter = w->data};
        if (step_adds(s, UPCONV_DX_DX)) a.add = a.src;
        run_tiled(s, a);
        return DDPM_OK;
    }
    const float *large = stage_read(&u->large, s);
    float *small = stage_write(&u->small, s);
    TRY(run_conv(s, (onednn_conv_args){.src = large, .dst = small, .filter = folded(s, w)}, e));
    stage_done(&u->small, s);
    return DDPM_OK;
}

/* ---- gradient of the weights ---- */

static ddpm_status upconv_dw_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, CONV_PASS_BACKWARD_WEIGHTS, s->in[UPCONV_DW_X], s->in[UPCONV_DW_DY], s->out[UPCONV_DW_DW],
                   scratch, e);
}

static ddpm_status upconv_dw_run(cpu_backend *be, const step *s, err *e)
{
    const upconv *u = s->impl;
    const tensor *x = s->in[UPCONV_DW_X], *dy = s->in[UPCONV_DW_DY], *dw = s->out[UPCONV_DW_DW];
    const tensor *dbias = s->out[UPCONV_DW_DBIAS];
    if (u->is_tiled) {
        run_tiled(s, (winograd_args){.src = winograd_image_of(x),
                                     .dst = winograd_image_of(dy),
                                     .filter = dw->data,
                                     .bias = cpu_data(dbias),
                                     .adds = step_adds(s, UPCONV_DW_DW),
                                     .adds_bias = step_adds(s, UPCONV_DW_DBIAS)});
        return DDPM_OK;
    }
    const float *small = stage_read(&u->small, s), *large = stage_read(&u->large, s);
    float *own = scratch_at(s, u->own);
    TRY(run_conv(s, (onednn_conv_args){.src = large, .dst = small, .filter = own}, e));
    unfold_gradient(own, dw->data, x->c, dy->c, step_adds(s, UPCONV_DW_DW));
    if (dbias) sum_bias(u, dy, large, step_adds(s, UPCONV_DW_DBIAS), dbias->data);
    return DDPM_OK;
}

const cpu_op cpu_upconv_fold = {NULL, upconv_fold_run, NULL};
const cpu_op cpu_upconv = {upconv_prepare, upconv_run, upconv_release};
const cpu_op cpu_upconv_dx = {upconv_dx_prepare, upconv_dx_run, upconv_release};
const cpu_op cpu_upconv_dw = {upconv_dw_prepare, upconv_dw_run, upconv_release};
