/* cpu_upconv.c - nearest x2 and a 3x3 convolution as one 4x4 stride-2 transposed convolution.
 *
 * The transposed convolution is the backward-data pass of a convolution C that maps the large
 * image [2h, 2w, cout] to the small one [h, w, cin]; so its gradients are C's forward pass (dx) and
 * C's backward-weights pass (dK).  K [cin, 4, 4, cout] is folded from the 3x3 filter W
 * [cout, 3, 3, cin]: K = A W A^T, dW = A^T dK A. */
#include "backend/cpu/cpu_backend.h"
#include "core/mem.h"

enum { SMALL = 3, LARGE = 4 };
static const float fold[LARGE][SMALL] = {{0, 0, 1}, {0, 1, 1}, {1, 1, 0}, {1, 0, 0}};

typedef struct upconv {
    dnn_conv *conv;
    float *filter; /* K or dK */
    uint64_t version;
} upconv;

static void fold_filter(const float *w, float *k, int64_t cin, int64_t cout)
{
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t ci = 0; ci < cin; ci++)
        for (int ab = 0; ab < LARGE * LARGE; ab++)
            for (int64_t co = 0; co < cout; co++) {
                float sum = 0;
                for (int i = 0; i < SMALL; i++)
                    for (int j = 0; j < SMALL; j++)
                        sum += fold[ab / LARGE][i] * fold[ab % LARGE][j] * w[((co * SMALL + i) * SMALL + j) * cin + ci];
                k[(ci * LARGE * LARGE + ab) * cout + co] = sum;
            }
}

static void unfold_gradient(const float *dk, float *dw, int64_t cin, int64_t cout, bool add)
{
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t co = 0; co < cout; co++)
        for (int ij = 0; ij < SMALL * SMALL; ij++)
            for (int64_t ci = 0; ci < cin; ci++) {
                float sum = 0;
                for (int a = 0; a < LARGE; a++)
                    for (int b = 0; b < LARGE; b++)
                        sum +=
                            fold[a][ij / SMALL] * fold[b][ij % SMALL] * dk[((ci * LARGE + a) * LARGE + b) * cout + co];
                float *to = &dw[(co * SMALL * SMALL + ij) * cin + ci];
                *to = add ? *to + sum : sum;
            }
}

static ddpm_status prepare(cpu_backend *be, step *s, dnn_pass pass, const tensor *small, const tensor *large,
                           size_t *scratch, err *e)
{
    const dnn_conv_spec spec = {.pass = pass,
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
    upconv *u = NULL;
    TRY(mem_array(&u, 1, sizeof *u, "upconv", e));
    s->impl = u;
    TRY(mem_array(&u->filter, (size_t)(small->c * LARGE * LARGE * large->c), sizeof(float), "upconv", e));
    return dnn_conv_create(be->dnn, &spec, &u->conv, scratch, e);
}

static void upconv_release(step *s)
{
    upconv *u = s->impl;
    if (!u) return;
    dnn_conv_destroy(u->conv);
    mem_free(u->filter);
    mem_free(u);
    s->impl = NULL;
}

static const float *folded(upconv *u, const tensor *w, int64_t cin)
{
    const uint64_t version = cpu_version(w);
    if (version == 0 || version != u->version) fold_filter(w->data, u->filter, cin, w->n);
    u->version = version;
    return u->filter;
}

static ddpm_status upconv_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, DNN_BACKWARD_DATA, s->in[UPCONV_X], s->out[UPCONV_Y], scratch, e);
}

static void add_bias(float *y, int64_t rows, int64_t c, const float *bias)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < c; i++) y[r * c + i] += bias[i];
}

static ddpm_status upconv_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    upconv *u = s->impl;
    const tensor *x = s->in[UPCONV_X], *w = s->in[UPCONV_W], *y = s->out[UPCONV_Y];
    TRY(dnn_conv_run(u->conv,
                     &(dnn_conv_args){.src = y->data,
                                      .dst = x->data,
                                      .filter = folded(u, w, x->c),
                                      .scratch = cpu_data(s->scratch),
                                      .version = cpu_version(w)},
                     e));
    add_bias(y->data, y->n * tensor_hw(y), y->c, s->in[UPCONV_BIAS]->data);
    return DDPM_OK;
}

static size_t sum_bytes(const step *s)
{
    const size_t bytes = (size_t)tensor_count(s->out[UPCONV_DX_DX]) * sizeof(float);
    return step_adds(s, UPCONV_DX_DX) ? (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN : 0;
}

static ddpm_status upconv_dx_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    TRY(prepare(be, s, DNN_FORWARD, s->out[UPCONV_DX_DX], s->in[UPCONV_DX_DY], scratch, e));
    *scratch += sum_bytes(s);
    return DDPM_OK;
}

static ddpm_status upconv_dx_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    upconv *u = s->impl;
    const tensor *w = s->in[UPCONV_DX_W], *dx = s->out[UPCONV_DX_DX];
    const size_t skip = sum_bytes(s);
    char *scratch = s->scratch ? s->scratch->data : NULL;
    float *to = skip ? (float *)(void *)scratch : dx->data;
    TRY(dnn_conv_run(u->conv,
                     &(dnn_conv_args){.src = s->in[UPCONV_DX_DY]->data,
                                      .dst = to,
                                      .filter = folded(u, w, dx->c),
                                      .scratch = scratch ? scratch + skip : NULL,
                                      .version = cpu_version(w)},
                     e));
    if (skip) cpu_add(dx->data, to, tensor_count(dx));
    return DDPM_OK;
}

static ddpm_status upconv_dw_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    return prepare(be, s, DNN_BACKWARD_WEIGHTS, s->in[UPCONV_DW_X], s->in[UPCONV_DW_DY], scratch, e);
}

static ddpm_status upconv_dw_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    upconv *u = s->impl;
    const tensor *x = s->in[UPCONV_DW_X], *dy = s->in[UPCONV_DW_DY], *dw = s->out[UPCONV_DW_DW];
    TRY(dnn_conv_run(
        u->conv,
        &(dnn_conv_args){.src = dy->data, .dst = x->data, .filter = u->filter, .scratch = cpu_data(s->scratch)}, e));
    unfold_gradient(u->filter, dw->data, x->c, dy->c, step_adds(s, UPCONV_DW_DW));
    cpu_column_sums(dy->data, dy->n * tensor_hw(dy), dy->c, step_adds(s, UPCONV_DW_DBIAS),
                    s->out[UPCONV_DW_DBIAS]->data);
    return DDPM_OK;
}

const cpu_op cpu_upconv = {upconv_prepare, upconv_run, upconv_release};
const cpu_op cpu_upconv_dx = {upconv_dx_prepare, upconv_dx_run, upconv_release};
const cpu_op cpu_upconv_dw = {upconv_dw_prepare, upconv_dw_run, upconv_release};
