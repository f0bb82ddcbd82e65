/* cuda_norm_act.c - group normalization, SiLU and dropout (kernels/norm_act.h). */
#include "backend/cuda/cuda_op.h"
#include "backend/step_args.h"
#include "norm_act.h"

static norm_act_args common(const step *s, const tensor *x, const tensor *x2, const tensor *cond)
{
    return (norm_act_args){.x = x->data,
                           .x2 = cuda_data(x2),
                           .cond = cuda_data(cond),
                           .cond_ld = cond ? tensor_ld(cond) : 0,
                           .type = cuda_storage(x),
                           .kind = (norm_condition)s->a.norm.cond,
                           .n = (int)x->n,
                           .hw = (int)tensor_hw(x),
                           .c1 = (int)x->c,
                           .c2 = x2 ? (int)x2->c : 0,
                           .groups = s->a.norm.groups,
                           .silu = s->a.norm.silu,
                           .eps = s->a.norm.eps};
}

static ddpm_status norm_act_run(cuda_backend *be, const step *s, err *e)
{
    norm_act_args a = common(s, s->in[NORM_X], s->in[NORM_X2], s->in[NORM_COND]);
    a.gamma = s->in[NORM_GAMMA]->data;
    a.beta = s->in[NORM_BETA]->data;
    a.y = s->out[NORM_Y]->data;
    a.mean = s->out[NORM_MEAN]->data;
    a.rstd = s->out[NORM_RSTD]->data;
    a.dropout = step_dropout(s, s->in[NORM_STATE]);
    return rt_launched(k_norm_act(be->stream, &a), e);
}

static norm_act_bwd_args backward_args(const step *s)
{
    norm_act_bwd_args a = {.f = common(s, s->in[NORM_BWD_X], s->in[NORM_BWD_X2], s->in[NORM_BWD_COND])};
    const tensor *dcond = s->out[NORM_BWD_DCOND];
    a.f.gamma = s->in[NORM_BWD_GAMMA]->data;
    a.f.beta = s->in[NORM_BWD_BETA]->data;
    a.f.mean = s->in[NORM_BWD_MEAN]->data;
    a.f.rstd = s->in[NORM_BWD_RSTD]->data;
    a.f.dropout = step_dropout(s, s->in[NORM_BWD_STATE]);
    a.dy = s->in[NORM_BWD_DY]->data;
    a.dx = cuda_data(s->out[NORM_BWD_DX]), a.add = step_adds(s, NORM_BWD_DX);
    a.dx2 = cuda_data(s->out[NORM_BWD_DX2]), a.add2 = step_adds(s, NORM_BWD_DX2);
    a.dcond = cuda_data(dcond), a.add_dcond = step_adds(s, NORM_BWD_DCOND);
    a.dcond_ld = dcond ? tensor_ld(dcond) : 0;
    for (int k = NORM_BWD_DBIAS; k <= NORM_BWD_DBIAS2_TWIN; k++) a.sum_dx |= s->out[k] != NULL;
    return a;
}

static ddpm_status norm_act_bwd_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const norm_act_bwd_args a = backward_args(s);
    *scratch = norm_act_bwd_scratch(&a);
    s->partial_bytes = norm_act_bwd_sums(&a);
    return DDPM_OK;
}

static ddpm_status norm_act_bwd_run(cuda_backend *be, const step *s, err *e)
{
    norm_act_bwd_args a = backward_args(s);
    a.scratch = cuda_scratch(s, 0);
    a.sums = cuda_partial(s, 0);
    return rt_launched(k_norm_act_bwd(be->stream, &a), e);
}

static int norm_act_bwd_sum_list(const step *s, grad_sum *list)
{
    static const struct {
        int output, sum;
        bool second; /* of the second source's channels */
    } sums[] = {{NORM_BWD_DGAMMA, NORM_SUM_DGAMMA, false}, {NORM_BWD_DBETA, NORM_SUM_DBETA, false},
                {NORM_BWD_DBIAS, NORM_SUM_DX, false},      {NORM_BWD_DBIAS2, NORM_SUM_DX, true},
                {NORM_BWD_DBIAS_TWIN, NORM_SUM_DX, false}, {NORM_BWD_DBIAS2_TWIN, NORM_SUM_DX, true}};
    const tensor *dy = s->in[NORM_BWD_DY];
    int n = 0;
    for (int k = 0; k < (int)(sizeof sums / sizeof *sums); k++) {
        const int64_t at = sums[k].sum * dy->c + (sums[k].second ? s->in[NORM_BWD_X]->c : 0);
        n += cuda_sum(&list[n], s, sums[k].output, (const float *)cuda_partial(s, 0) + at, STORE_F32, dy->n,
                      NORM_SUMS * dy->c);
    }
    return n;
}

const cuda_op cuda_norm_act = {.run = norm_act_run};
const cuda_op cuda_norm_act_bwd = {
    .prepare = norm_act_bwd_prepare, .run = norm_act_bwd_run, .sums = norm_act_bwd_sum_list};
