/* op_conv2d.c - 1x1 and 3x3 convolutions over one or two sources, with bias and residual. */
#include "nn/nn.h"
#include "base/arith.h"
#include "ir/operands.h"

static bool check(plan *p, const nn_conv_args *a, int kernel, int stride)
{
    const tensor *x = a->x, *x2 = a->x2;
    if ((kernel != 1 && kernel != 3) || (stride != 1 && stride != 2) || (kernel == 1 && stride == 2))
        return plan_fail(p, DDPM_EINVAL, "%s: %dx%d convolution with stride %d is not supported", a->name, kernel,
                         kernel, stride);
    if (x2 && (kernel != 1 || x2->n != x->n || x2->h != x->h || x2->w != x->w))
        return plan_fail(p, DDPM_EINVAL, "%s: cannot concatenate %lldx%lld and %lldx%lld images", a->name,
                         (long long)x->h, (long long)x->w, (long long)x2->h, (long long)x2->w);
    if (a->pad_end && (x->h % 2 || x->w % 2))
        return plan_fail(p, DDPM_EINVAL,
                         "%s: %lldx%lld cannot be halved with downsample_padding 0; use a size that stays even, or "
                         "downsample_padding 1",
                         a->name, (long long)x->h, (long long)x->w);
    return true;
}

tensor *nn_conv2d(plan *p, const nn_conv_args *a)
{
    if (!a->x || !plan_ok(p)) return NULL;
    const int kernel = a->kernel ? a->kernel : 3, stride = a->stride ? a->stride : 1;
    if (!check(p, a, kernel, stride)) return NULL;
    const layer_rows one = {a->name, a->cout}, *rows = a->rows ? a->rows : &one;
    const int n_rows = a->rows ? a->n_rows : 1;
    const int64_t cin = a->x->c + (a->x2 ? a->x2->c : 0);
    const param_spec weight = {.rank = a->matrix ? 2 : 4,
                               .h = kernel,
                               .w = kernel,
                               .c = cin,
                               .fan_in = (int)cin * kernel * kernel,
                               .fan_out_per_row = kernel * kernel,
                               .init = a->init};
    const param_spec bias = {.rank = 1,
                             .h = 1,
                             .w = 1,
                             .c = 1,
                             .fan_in = weight.fan_in,
                             .init = a->bias_init == INIT_FAN_IN ? INIT_FAN_IN : INIT_ZEROS};
    tensor *w = plan_param(p, rows, n_rows, "weight", &weight), *b = plan_param(p, rows, n_rows, "bias", &bias);
    if (!w || !b) return NULL;
    tensor *y = plan_act(p, rows[0].name, a->x->n, ceil_div(a->x->h, stride), ceil_div(a->x->w, stride), w->n);
    if (!y) return NULL;
    if (a->residual && (tensor_count(a->residual) != tensor_count(y) || a->residual->c != y->c))
        return plan_fail(p, DDPM_EINVAL, "%s: the residual has %lld channels, but the output has %lld", a->name,
                         (long long)a->residual->c, (long long)y->c);
    plan_push(p, "%s", rows[0].name);
    step *s = plan_emit(p, OP_conv2d);
    plan_pop(p);
    s->in[CONV_X] = a->x, s->in[CONV_X2] = a->x2, s->in[CONV_W] = w, s->in[CONV_BIAS] = b;
    s->in[CONV_RESIDUAL] = a->residual;
    s->out[CONV_Y] = y;
    s->a.conv.kernel = kernel, s->a.conv.stride = stride, s->a.conv.pad_end = a->pad_end;
    return y;
}

void conv2d_vjp(plan *p, step *f)
{
    tensor *dy = f->out[CONV_Y]->grad, *x = f->in[CONV_X], *x2 = f->in[CONV_X2];
    step *s = plan_emit(p, OP_conv2d_dw);
    s->a = f->a;
    s->in[CONV_DW_X] = x, s->in[CONV_DW_X2] = x2, s->in[CONV_DW_DY] = dy;
    plan_grad_out(p, s, CONV_DW_DW, f->in[CONV_W]);
    plan_bias_grad(p, s, CONV_DW_DBIAS, dy, f->in[CONV_BIAS]);
    if (x->needs_grad || (x2 && x2->needs_grad)) {
        s = plan_emit(p, OP_conv2d_dx);
        s->a = f->a;
        s->in[CONV_DX_DY] = dy, s->in[CONV_DX_W] = f->in[CONV_W];
        plan_grad_out(p, s, CONV_DX_DX, x);
        plan_grad_out(p, s, CONV_DX_DX2, x2);
    }
    plan_grad_pass(p, f->in[CONV_RESIDUAL], dy);
}

static double macs(const tensor *y, const tensor *w) { return (double)tensor_count(y) * (double)(w->h * w->w * w->c); }

double conv2d_flops(const step *s) { return 2 * macs(s->out[CONV_Y], s->in[CONV_W]); }
double conv2d_dx_flops(const step *s) { return 2 * macs(s->in[CONV_DX_DY], s->in[CONV_DX_W]); }
double conv2d_dw_flops(const step *s) { return 2 * macs(s->in[CONV_DW_DY], s->out[CONV_DW_DW]); }
