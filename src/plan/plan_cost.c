/* plan_cost.c - cost of a plan: floating-point operations, and bytes read and written. */
#include "plan/plan.h"

const flops_fn op_flops[OP_COUNT] = {
#define OP(name, vjp, flops, flags) [OP_##name] = flops,
#include "ir/ops.def"
#undef OP
};

double pointwise_flops(const step *s)
{
    double n = 0;
    for (int k = 0; k < STEP_OUT; k++)
        if (s->out[k]) n += (double)tensor_count(s->out[k]);
    return n;
}

double plan_flops(const plan *p, int from, int to)
{
    double sum = 0;
    for (int i = from; i < to; i++)
        if (!p->steps[i]->recomputed) sum += op_flops[p->steps[i]->op](p->steps[i]);
    return sum;
}

static double tensor_size(const tensor *t) { return t ? (double)tensor_count(t) * (double)dtype_size(t->dtype) : 0; }

double plan_bytes(const plan *p, int from, int to)
{
    double sum = 0;
    for (int i = from; i < to; i++) {
        const step *s = p->steps[i];
        for (int k = 0; k < STEP_IN; k++) sum += tensor_size(s->in[k]);
        for (int k = 0; k < STEP_OUT; k++) sum += tensor_size(s->out[k]) * (step_adds(s, k) ? 2 : 1);
    }
    return sum;
}
