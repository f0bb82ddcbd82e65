#include "backend/cuda/cuda_op.h"

#include <string.h>

static const cuda_op *const ops[OP_COUNT] = {
#define OP(name, vjp, flops, flags) [OP_##name] = &cuda_##name,
#include "ir/ops.def"
#undef OP
};

static ddpm_status name_step(const step *s, ddpm_status st, const err *why, err *e)
{
    return st == DDPM_OK ? st : err_set(e, st, "%s (%s): %s", s->path, op_name[s->op], why->text);
}

ddpm_status cuda_op_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    err why = {0};
    *scratch = 0;
    if (!ops[s->op]->prepare) return DDPM_OK;
    return name_step(s, ops[s->op]->prepare(be, s, scratch, &why), &why, e);
}

ddpm_status cuda_op_run(cuda_backend *be, const step *s, err *e)
{
    err why = {0};
    return name_step(s, ops[s->op]->run(be, s, &why), &why, e);
}

ddpm_status cuda_op_sums(cuda_backend *be, step *const *steps, int n, err *e)
{
    grad_sum list[GRAD_SUMS_LAUNCH + STEP_SUMS];
    int count = 0;
    for (int i = 0; i < n; i++) {
        const cuda_op *op = ops[steps[i]->op];
        if (!op->sums || (i > 0 && steps[i] == steps[i - 1])) continue; /* a step repeated by a benchmark */
        count += op->sums(steps[i], list + count);
        if (count < GRAD_SUMS_LAUNCH) continue;
        TRY(rt_launched(k_grad_sums(be->stream, list, GRAD_SUMS_LAUNCH), e));
        count -= GRAD_SUMS_LAUNCH;
        memcpy(list, list + GRAD_SUMS_LAUNCH, (size_t)count * sizeof *list);
    }
    return count ? rt_launched(k_grad_sums(be->stream, list, count), e) : DDPM_OK;
}

void cuda_op_release(step *s)
{
    if (s->impl && ops[s->op]->release) ops[s->op]->release(s);
}
