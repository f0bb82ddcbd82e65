/* cuda_concat.c - concatenation of x and the skip (kernels/concat.h), where CUDA_OPT_CONCAT is disabled. */
#include "backend/cuda/cuda_op.h"
#include "concat.h"

static ddpm_status concat_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *x = s->in[CONCAT_X], *x2 = s->in[CONCAT_X2], *y = s->out[CONCAT_Y];
    const concat_args a = {.x = x->data,
                           .x2 = x2->data,
                           .y = y->data,
                           .type = cuda_storage(y),
                           .rows = y->n * tensor_hw(y),
                           .c1 = x->c,
                           .c2 = x2->c};
    return rt_launched(k_concat(be->stream, &a), e);
}

static ddpm_status concat_bwd_run(cuda_backend *be, const step *s, err *e)
{
    const tensor *dy = s->in[CONCAT_BWD_DY], *dx = s->out[CONCAT_BWD_DX], *dx2 = s->out[CONCAT_BWD_DX2];
    const int64_t c1 = dx ? dx->c : dy->c - dx2->c;
    const concat_bwd_args a = {.dy = dy->data,
                               .dx = cuda_data(dx),
                               .dx2 = cuda_data(dx2),
                               .type = cuda_storage(dy),
                               .rows = dy->n * tensor_hw(dy),
                               .c1 = c1,
                               .c2 = dy->c - c1,
                               .add = step_adds(s, CONCAT_BWD_DX),
                               .add2 = step_adds(s, CONCAT_BWD_DX2)};
    return rt_launched(k_concat_bwd(be->stream, &a), e);
}

const cuda_op cuda_concat = {.run = concat_run};
const cuda_op cuda_concat_bwd = {.run = concat_bwd_run};
