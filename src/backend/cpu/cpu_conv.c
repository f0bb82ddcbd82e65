/* cpu_conv.c - convolutions: 3x3 through oneDNN's direct kernels, 1x1 as matrix products.
 *
 * In NHWC a 1x1 convolution is one product over all pixels; its second source, its residual and
 * every accumulation are then the product's own leading dimensions and beta. */
#include "backend/cpu/cpu_backend.h"
#include "core/mem.h"

static bool is_product(const step *s) { return s->a.conv.kernel == 1; }

/* src is the larger image, dst the one the convolution makes of it. */
static dnn_conv_spec conv_spec(const step *s, dnn_pass pass, const tensor *src, const tensor *dst)
{
    const int k = s->a.conv.kernel;
    return (dnn_conv_spec){.pass = pass,
                           .n = src->n,
                           .h = src->h,
                           .w = src->w,
                           .cin = src->c,
                           .oh = dst->h,
                           .ow = dst->w,
                           .cout = dst->c,
                           .kernel = k,
                           .stride = s->a.conv.stride,
                           .pad_begin = s->a.conv.pad_end ? 0 : k / 2,
                           .pad_end = k / 2};
}

static ddpm_status create(cpu_backend *be, step *s, const dnn_conv_spec *spec, size_t *scratch, err *e)
{
    dnn_conv *c = NULL;
    TRY(dnn_conv_create(be->dnn, spec, &c, scratch, e));
    s->impl = c;
    return DDPM_OK;
}

static void conv_release(step *s)
{
    dnn_conv_destroy(s->impl);
    s->impl = NULL;
}

/* C [rows, n] (=, +=) op(A) op(B): the three products of a 1x1 convolution. */
static ddpm_status product(const dnn_gemm_args *g, err *e) { return g->k > 0 ? dnn_gemm(g, e) : DDPM_OK; }

/* ---- forward ---- */

static ddpm_status conv2d_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    if (is_product(s)) return DDPM_OK;
    dnn_conv_spec spec = conv_spec(s, DNN_FORWARD, s->in[CONV_X], s->out[CONV_Y]);
    spec.bias = true;
    spec.residual = s->in[CONV_RESIDUAL] != NULL;
    return create(be, s, &spec, scratch, e);
}

static ddpm_status forward_product(const step *s, err *e)
{
    const tensor *x = s->in[CONV_X], *x2 = s->in[CONV_X2], *w = s->in[CONV_W], *y = s->out[CONV_Y];
    const int64_t rows = y->n * tensor_hw(y);
    cpu_fill_rows(y->data, rows, y->c, s->in[CONV_BIAS]->data, cpu_data(s->in[CONV_RESIDUAL]));
    dnn_gemm_args g = {.transpose_b = true,
                       .m = rows,
                       .n = y->c,
                       .k = x->c,
                       .alpha = 1,
                       .beta = 1,
                       .a = x->data,
                       .b = w->data,
                       .c = y->data,
                       .lda = x->c,
                       .ldb = w->c,
                       .ldc = y->c};
    TRY(product(&g, e));
    if (!x2) return DDPM_OK;
    g.k = g.lda = x2->c;
    g.a = x2->data;
    g.b = (const float *)w->data + x->c;
    return product(&g, e);
}

static ddpm_status conv2d_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    if (is_product(s)) return forward_product(s, e);
    const tensor *w = s->in[CONV_W];
    return dnn_conv_run(s->impl,
                        &(dnn_conv_args){.src = s->in[CONV_X]->data,
                                         .dst = s->out[CONV_Y]->data,
                                         .filter = w->data,
                                         .bias = s->in[CONV_BIAS]->data,
                                         .residual = cpu_data(s->in[CONV_RESIDUAL]),
                                         .scratch = cpu_data(s->scratch),
                                         .version = cpu_version(w)},
                        e);
}

/* ---- gradient of the input ---- */

/* oneDNN only sets; a gradient to be added to goes through memory of its own first. */
static size_t sum_bytes(const step *s)
{
    const size_t bytes = (size_t)tensor_count(s->out[CONV_DX_DX]) * sizeof(float);
    return step_adds(s, CONV_DX_DX) ? (bytes + MEM_ALIGN - 1) / MEM_ALIGN * MEM_ALIGN : 0;
}

static ddpm_status conv2d_dx_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    if (is_product(s)) return DDPM_OK;
    const dnn_conv_spec spec = conv_spec(s, DNN_BACKWARD_DATA, s->out[CONV_DX_DX], s->in[CONV_DX_DY]);
    TRY(create(be, s, &spec, scratch, e));
    *scratch += sum_bytes(s);
    return DDPM_OK;
}

/* dx of one source: columns [from, from + dx->c) of the weight. */
static ddpm_status dx_product(const step *s, int out, int64_t from, err *e)
{
    const tensor *dy = s->in[CONV_DX_DY], *w = s->in[CONV_DX_W], *dx = s->out[out];
    if (!dx) return DDPM_OK;
    const dnn_gemm_args g = {.m = dy->n * tensor_hw(dy),
                             .n = dx->c,
                             .k = dy->c,
                             .alpha = 1,
                             .beta = step_adds(s, out) ? 1 : 0,
                             .a = dy->data,
                             .b = (const float *)w->data + from,
                             .c = dx->data,
                             .lda = dy->c,
                             .ldb = w->c,
                             .ldc = dx->c};
    return product(&g, e);
}

static ddpm_status conv2d_dx_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const tensor *w = s->in[CONV_DX_W], *dx = s->out[CONV_DX_DX], *dx2 = s->out[CONV_DX_DX2];
    if (is_product(s)) {
        TRY(dx_product(s, CONV_DX_DX, 0, e));
        return dx_product(s, CONV_DX_DX2, dx2 ? w->c - dx2->c : 0, e);
    }
    const size_t skip = sum_bytes(s);
    char *scratch = s->scratch ? s->scratch->data : NULL;
    float *to = skip ? (float *)(void *)scratch : dx->data;
    TRY(dnn_conv_run(s->impl,
                     &(dnn_conv_args){.src = to,
                                      .dst = s->in[CONV_DX_DY]->data,
                                      .filter = w->data,
                                      .scratch = scratch ? scratch + skip : NULL,
                                      .version = cpu_version(w)},
                     e));
    if (skip) cpu_add(dx->data, to, tensor_count(dx));
    return DDPM_OK;
}

/* ---- gradient of the weights ---- */

static ddpm_status conv2d_dw_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    if (is_product(s)) return DDPM_OK;
    dnn_conv_spec spec = conv_spec(s, DNN_BACKWARD_WEIGHTS, s->in[CONV_DW_X], s->in[CONV_DW_DY]);
    spec.bias = true;
    return create(be, s, &spec, scratch, e);
}

static ddpm_status dw_product(const step *s, const tensor *x, int64_t from, err *e)
{
    const tensor *dy = s->in[CONV_DW_DY], *dw = s->out[CONV_DW_DW];
    if (!x) return DDPM_OK;
    const dnn_gemm_args g = {.transpose_a = true,
                             .m = dy->c,
                             .n = x->c,
                             .k = dy->n * tensor_hw(dy),
                             .alpha = 1,
                             .beta = step_adds(s, CONV_DW_DW) ? 1 : 0,
                             .a = dy->data,
                             .b = x->data,
                             .c = (float *)dw->data + from,
                             .lda = dy->c,
                             .ldb = x->c,
                             .ldc = dw->c};
    return product(&g, e);
}

static ddpm_status conv2d_dw_run(cpu_backend *be, const step *s, err *e)
{
    (void)be;
    const tensor *x = s->in[CONV_DW_X], *dy = s->in[CONV_DW_DY], *dbias = s->out[CONV_DW_DBIAS];
    if (is_product(s)) {
        cpu_column_sums(dy->data, dy->n * tensor_hw(dy), dy->c, step_adds(s, CONV_DW_DBIAS), dbias->data);
        TRY(dw_product(s, x, 0, e));
        return dw_product(s, s->in[CONV_DW_X2], x->c, e);
    }
    return dnn_conv_run(s->impl,
                        &(dnn_conv_args){.src = x->data,
                                         .dst = dy->data,
                                         .filter = s->out[CONV_DW_DW]->data,
                                         .bias = dbias->data,
                                         .scratch = cpu_data(s->scratch),
                                         .add = step_adds(s, CONV_DW_DW),
                                         .add_bias = step_adds(s, CONV_DW_DBIAS)},
                        e);
}

const cpu_op cpu_conv2d = {conv2d_prepare, conv2d_run, conv_release};
const cpu_op cpu_conv2d_dx = {conv2d_dx_prepare, conv2d_dx_run, conv_release};
const cpu_op cpu_conv2d_dw = {conv2d_dw_prepare, conv2d_dw_run, conv_release};
