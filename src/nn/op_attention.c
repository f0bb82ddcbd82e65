/* op_attention.c - softmax attention of every position to every other of its image. */
#include "nn/nn.h"
#include "ir/operands.h"

tensor *nn_attention(plan *p, tensor *qkv, int heads)
{
    if (!qkv || !plan_ok(p)) return NULL;
    const int64_t c = qkv->c / 3;
    if (qkv->c % 3 || heads < 1 || c % heads)
        return plan_fail(p, DDPM_EINVAL,
                         "attention: the %lld channels of q, k and v are not divisible into 3 x %d heads",
                         (long long)qkv->c, heads);
    tensor *y = plan_act(p, "attention", qkv->n, qkv->h, qkv->w, c);
    tensor *lse = plan_act_f32(p, "lse", qkv->n, heads, tensor_hw(qkv), 1);
    plan_push(p, "attention");
    step *s = plan_emit(p, OP_attention);
    plan_pop(p);
    s->in[ATTN_QKV] = qkv;
    s->out[ATTN_Y] = y, s->out[ATTN_LSE] = lse;
    s->a.attention.heads = heads;
    return y;
}

void attention_vjp(plan *p, step *f)
{
    step *s = plan_emit(p, OP_attention_bwd);
    s->a = f->a;
    s->in[ATTN_BWD_DY] = f->out[ATTN_Y]->grad;
    s->in[ATTN_BWD_QKV] = f->in[ATTN_QKV], s->in[ATTN_BWD_Y] = f->out[ATTN_Y], s->in[ATTN_BWD_LSE] = f->out[ATTN_LSE];
    plan_grad_out(p, s, ATTN_BWD_DQKV, f->in[ATTN_QKV]);
}

/* Two products of s x s x c per image in the forward pass, five in the backward pass (which recomputes the scores). */
static double product(const tensor *qkv)
{
    const double positions = (double)tensor_hw(qkv);
    return 2 * (double)qkv->n * positions * positions * (double)(qkv->c / 3);
}

double attention_flops(const step *s) { return 2 * product(s->in[ATTN_QKV]); }
double attention_bwd_flops(const step *s) { return 5 * product(s->in[ATTN_BWD_QKV]); }
