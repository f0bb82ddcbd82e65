/* op_upconv.c - nearest-neighbour x2 upsampling followed by a 3x3 convolution.
 *
 * Every output pixel depends on only 2x2 distinct input pixels, so the 3x3 filter W can be folded to a 4x4 filter K
 * = A W A^T with A = [[0,0,1],[0,1,1],[1,1,0],[1,0,0]], which is applied as a transposed convolution of stride 2 and
 * padding 1: 16 multiplications per input pixel instead of 36, and no upsampled tensor. dW = A^T dK A. */
#include "nn/nn.h"
#include "ir/operands.h"

static tensor *folded(plan *p, tensor *w)
{
    if (!w || !p->be->folds) return NULL;
    tensor *k = plan_act(p, "folded", w->c, 4, 4, w->n);
    step *s = plan_emit(p, OP_upconv_fold);
    s->in[UPCONV_FOLD_W] = w;
    s->out[UPCONV_FOLD_K] = k;
    return k;
}

tensor *nn_upconv(plan *p, tensor *x, int64_t cout, param_init init, const char *name)
{
    if (!x || !plan_ok(p)) return NULL;
    const layer_rows rows = {name, cout};
    const param_spec weight = {
        .rank = 4, .h = 3, .w = 3, .c = x->c, .fan_in = (int)x->c * 9, .fan_out_per_row = 9, .init = init};
    const param_spec bias = {.rank = 1, .h = 1, .w = 1, .c = 1, .init = INIT_ZEROS};
    tensor *w = plan_param(p, &rows, 1, "weight", &weight), *b = plan_param(p, &rows, 1, "bias", &bias);
    tensor *y = plan_act(p, name, x->n, 2 * x->h, 2 * x->w, cout);
    plan_push(p, "%s", name);
    tensor *k = folded(p, w);
    step *s = plan_emit(p, OP_upconv);
    plan_pop(p);
    s->in[UPCONV_X] = x, s->in[UPCONV_W] = w, s->in[UPCONV_BIAS] = b, s->in[UPCONV_K] = k;
    s->out[UPCONV_Y] = y;
    return y;
}

void upconv_vjp(plan *p, step *f)
{
    tensor *dy = f->out[UPCONV_Y]->grad;
    step *s = plan_emit(p, OP_upconv_dw);
    s->in[UPCONV_DW_X] = f->in[UPCONV_X], s->in[UPCONV_DW_DY] = dy;
    plan_grad_out(p, s, UPCONV_DW_DW, f->in[UPCONV_W]);
    plan_bias_grad(p, s, UPCONV_DW_DBIAS, dy, f->in[UPCONV_BIAS]);
    if (!f->in[UPCONV_X]->needs_grad) return;
    s = plan_emit(p, OP_upconv_dx);
    s->in[UPCONV_DX_DY] = dy, s->in[UPCONV_DX_W] = f->in[UPCONV_W], s->in[UPCONV_DX_K] = f->in[UPCONV_K];
    plan_grad_out(p, s, UPCONV_DX_DX, f->in[UPCONV_X]);
}

/* Operations of the folded filter, not of the 3x3 convolution. */
static double macs(const tensor *x, int64_t cout) { return (double)tensor_count(x) * 16 * (double)cout; }

double upconv_flops(const step *s) { return 2 * macs(s->in[UPCONV_X], s->out[UPCONV_Y]->c); }
double upconv_dx_flops(const step *s) { return 2 * macs(s->out[UPCONV_DX_DX], s->in[UPCONV_DX_DY]->c); }
double upconv_dw_flops(const step *s) { return 2 * macs(s->in[UPCONV_DW_X], s->in[UPCONV_DW_DY]->c); }
