/* cuda_attention.c - attention: cuDNN's fused attention where available, else matrix products and a softmax.
 *
 * The products are computed head by head over all images: scores = q k^T / sqrt(d) in f32, p = softmax(scores) in the
 * type of the activations, y = p v.  Their backward pass recomputes scores and p from q and k. */
#include "backend/cuda/op/cuda_product.h"
#include "backend/cuda/op/cuda_problems.h"
#include "base/mem.h"
#include "softmax.h"

#include <math.h>

enum { SCORES, CONTEXT, DP, DV, DQ, DK, PRODUCTS };

typedef struct attention_impl {
    primitive *fused; /* NULL: matrix products */
    size_t workspace;
    product of[PRODUCTS];
    target dqkv; /* for matrix products */
    size_t scores, dp, p, ds, lse;
} attention_impl;

static void attention_release(step *s)
{
    mem_free(s->impl);
    s->impl = NULL;
}

static attention_problem problem_of(const step *s, const tensor *qkv)
{
    return (attention_problem){.backward = s->op == OP_attention_bwd,
                               .io = qkv->dtype,
                               .n = qkv->n,
                               .s = tensor_hw(qkv),
                               .heads = s->a.attention.heads,
                               .d = (int)(qkv->c / 3) / s->a.attention.heads};
}

int cuda_attention_problems(const step *s, unsigned disabled, attention_problem *out, int cap)
{
    if ((s->op != OP_attention && s->op != OP_attention_bwd) || disabled & CUDA_OPT_SDPA) return 0;
    if (cap > 0) *out = problem_of(s, s->in[s->op == OP_attention ? ATTN_QKV : ATTN_BWD_QKV]);
    return 1;
}

/* *fused = NULL where matrix products must be used.  Each pass is fused only where the other can be too: the fused
 * backward pass needs the log-sum-exp that the fused forward pass stores. */
static ddpm_status find_fused(cuda_backend *be, const attention_problem *q, primitive **fused, err *e)
{
    attention_problem other = *q;
    primitive *partner = NULL;
    *fused = NULL;
    if (q->io != DTYPE_BF16) return DDPM_OK;
    other.backward = !q->backward;
    TRY(cuda_primitive_sdpa(be, &other, &partner, e));
    return partner ? cuda_primitive_sdpa(be, q, fused, e) : DDPM_OK;
}

/* A batched product over the matrices of one head: q, k, v [s, d] are columns of qkv, a score matrix is [s, s]. */
static gemm_problem head_product(const attention_problem *q, dtype in, dtype out)
{
    return (gemm_problem){.in = in, .out = out, .m = q->s, .n = q->s, .k = q->s, .batch = q->n};
}

typedef struct layout {
    int64_t ld, stride;
} layout;

static void place(gemm_problem *g, layout a, layout b, layout d)
{
    g->lda = a.ld, g->stride_a = a.stride;
    g->ldb = b.ld, g->stride_b = b.stride;
    g->ldd = d.ld, g->stride_d = d.stride;
}

static int64_t head_bytes(const attention_problem *q) { return q->d * (int64_t)dtype_size(q->io); }

static ddpm_status prepare_scores(cuda_backend *be, attention_impl *impl, const attention_problem *q, size_t *end,
                                  err *e)
{
    const layout wide = {3 * q->heads * q->d, q->s * 3 * q->heads * q->d}, square = {q->s, q->s * q->s};
    gemm_problem *g = &impl->of[SCORES].q;
    *g = head_product(q, q->io, DTYPE_F32);
    g->transpose_b = true, g->k = q->d;
    g->alpha = (float)(1.0 / sqrt((double)q->d));
    place(g, wide, wide, square);
    const size_t count = (size_t)(q->n * q->s * q->s);
    impl->scores = cuda_piece(end, count * sizeof(float));
    impl->p = cuda_piece(end, count * dtype_size(q->io));
    impl->lse = cuda_piece(end, (size_t)(q->n * q->s) * sizeof(float));
    return cuda_product_prepare(be, &impl->of[SCORES], head_bytes(q), end, e);
}

static ddpm_status attention_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const attention_problem q = problem_of(s, s->in[ATTN_QKV]);
    const layout wide = {3 * q.heads * q.d, q.s * 3 * q.heads * q.d}, square = {q.s, q.s * q.s};
    const layout narrow = {q.heads * q.d, q.s * q.heads * q.d};
    attention_impl *impl;
    TRY(mem_array(&impl, 1, sizeof *impl, "attention", e));
    s->impl = impl;
    TRY(find_fused(be, &q, &impl->fused, e));
    if (impl->fused) {
        impl->workspace = cuda_piece(scratch, tuner_workspace(impl->fused));
        return DDPM_OK;
    }
    TRY(prepare_scores(be, impl, &q, scratch, e));
    gemm_problem *g = &impl->of[CONTEXT].q;
    *g = head_product(&q, q.io, q.io);
    g->n = q.d;
    place(g, square, wide, narrow);
    return cuda_product_prepare(be, &impl->of[CONTEXT], head_bytes(&q), scratch, e);
}

/* The address of q, k or v (`part` 0, 1, 2) of a head within a matrix of qkv's shape. */
static void *column(const tensor *qkv, void *data, const attention_problem *q, int part, int head)
{
    const int64_t at = (int64_t)(part * q->heads + head) * q->d;
    return (char *)data + at * (int64_t)dtype_size(qkv->dtype);
}

/* lse: of this head within [n, heads, s], NULL: only needed within this step. */
static ddpm_status run_softmax(cuda_backend *be, const step *s, const attention_problem *q, float *lse, err *e)
{
    const attention_impl *impl = s->impl;
    const softmax_args a = {.scores = cuda_scratch(s, impl->scores),
                            .p = cuda_scratch(s, impl->p),
                            .type = q->io == DTYPE_BF16 ? STORE_BF16 : STORE_F32,
                            .lse = lse ? lse : cuda_scratch(s, impl->lse),
                            .lse_stride = lse ? q->heads * q->s : 0,
                            .rows = q->n * q->s,
                            .s = q->s};
    return rt_launched(k_softmax(be->stream, &a), e);
}

static ddpm_status run_scores(cuda_backend *be, const step *s, const tensor *qkv, const attention_problem *q, int head,
                              float *lse, err *e)
{
    const attention_impl *impl = s->impl;
    const product_data at = {.a = column(qkv, qkv->data, q, 0, head),
                             .b = column(qkv, qkv->data, q, 1, head),
                             .d = cuda_scratch(s, impl->scores)};
    TRY(cuda_product_run(be, s, &impl->of[SCORES], &at, e));
    return run_softmax(be, s, q, lse, e);
}

static ddpm_status attention_run(cuda_backend *be, const step *s, err *e)
{
    const attention_impl *impl = s->impl;
    const tensor *qkv = s->in[ATTN_QKV], *y = s->out[ATTN_Y];
    const attention_problem q = problem_of(s, qkv);
    if (impl->fused) {
        void *const operands[PRIMITIVE_OPERANDS] = {
            [SDPA_QKV] = qkv->data, [SDPA_Y] = y->data, [SDPA_LSE] = s->out[ATTN_LSE]->data};
        return cuda_primitive_run(be, impl->fused, operands, cuda_scratch(s, impl->workspace), e);
    }
    float *lse = cuda_data(s->out[ATTN_LSE]);
    for (int head = 0; head < q.heads; head++) {
        TRY(run_scores(be, s, qkv, &q, head, lse ? lse + head * q.s : NULL, e));
        const product_data at = {.a = cuda_scratch(s, impl->p),
                                 .b = column(qkv, qkv->data, &q, 2, head),
                                 .d = column(y, y->data, &q, 0, head)};
        TRY(cuda_product_run(be, s, &impl->of[CONTEXT], &at, e));
    }
    return DDPM_OK;
}

/* ---- backward: dv = p^T dy; dp = dy v^T; ds = p (dp - sum p dp); dq = ds k / sqrt(d), dk = ds^T q / sqrt(d) ---- */

static ddpm_status prepare_products_bwd(cuda_backend *be, const step *s, attention_impl *impl,
                                        const attention_problem *q, size_t *end, err *e)
{
    const layout wide = {3 * q->heads * q->d, q->s * 3 * q->heads * q->d}, square = {q->s, q->s * q->s};
    const layout narrow = {q->heads * q->d, q->s * q->heads * q->d};
    impl->dqkv = cuda_target(be, s->out[ATTN_BWD_DQKV], step_adds(s, ATTN_BWD_DQKV), end);
    gemm_problem *g = &impl->of[DP].q;
    *g = head_product(q, q->io, DTYPE_F32);
    g->transpose_b = true, g->k = q->d;
    place(g, narrow, wide, square);
    for (int i = DV; i <= DK; i++) {
        g = &impl->of[i].q;
        *g = head_product(q, q->io, q->io);
        g->n = q->d;
        g->transpose_a = i != DQ;
        g->addend = impl->dqkv.add;
        if (i != DV) g->alpha = (float)(1.0 / sqrt((double)q->d));
        place(g, square, i == DV ? narrow : wide, wide);
    }
    const size_t count = (size_t)(q->n * q->s * q->s);
    impl->dp = cuda_piece(end, count * sizeof(float));
    impl->ds = cuda_piece(end, count * dtype_size(q->io));
    for (int i = DP; i <= DK; i++) TRY(cuda_product_prepare(be, &impl->of[i], head_bytes(q), end, e));
    return DDPM_OK;
}

static ddpm_status attention_bwd_prepare(cuda_backend *be, step *s, size_t *scratch, err *e)
{
    const attention_problem q = problem_of(s, s->in[ATTN_BWD_QKV]);
    attention_impl *impl;
    TRY(mem_array(&impl, 1, sizeof *impl, "attention", e));
    s->impl = impl;
    TRY(find_fused(be, &q, &impl->fused, e));
    if (!impl->fused) {
        TRY(prepare_scores(be, impl, &q, scratch, e));
        return prepare_products_bwd(be, s, impl, &q, scratch, e);
    }
    const tensor *dqkv = s->out[ATTN_BWD_DQKV];
    impl->workspace = cuda_piece(scratch, tuner_workspace(impl->fused));
    if (step_adds(s, ATTN_BWD_DQKV))
        impl->ds = cuda_piece(scratch, (size_t)tensor_count(dqkv) * dtype_size(dqkv->dtype));
    return DDPM_OK;
}

static ddpm_status run_fused_bwd(cuda_backend *be, const step *s, err *e)
{
    const attention_impl *impl = s->impl;
    const tensor *dqkv = s->out[ATTN_BWD_DQKV];
    const bool add = step_adds(s, ATTN_BWD_DQKV);
    void *to = add ? cuda_scratch(s, impl->ds) : dqkv->data;
    void *const operands[PRIMITIVE_OPERANDS] = {[SDPA_QKV] = s->in[ATTN_BWD_QKV]->data,
                                                [SDPA_Y] = s->in[ATTN_BWD_Y]->data,
                                                [SDPA_LSE] = s->in[ATTN_BWD_LSE]->data,
                                                [SDPA_DY] = s->in[ATTN_BWD_DY]->data,
                                                [SDPA_DQKV] = to};
    TRY(cuda_primitive_run(be, impl->fused, operands, cuda_scratch(s, impl->workspace), e));
    return add ? cuda_copy_as(be, to, cuda_storage(dqkv), dqkv, true, e) : DDPM_OK;
}

static ddpm_status run_head_bwd(cuda_backend *be, const step *s, const attention_problem *q, int head, err *e)
{
    const attention_impl *impl = s->impl;
    const tensor *qkv = s->in[ATTN_BWD_QKV], *dy = s->in[ATTN_BWD_DY], *dqkv = s->out[ATTN_BWD_DQKV];
    const void *dyh = column(dy, dy->data, q, 0, head), *p = cuda_scratch(s, impl->p), *ds = cuda_scratch(s, impl->ds);
    void *data = cuda_target_data(s, &impl->dqkv, dqkv), *to[3];
    for (int part = 0; part < 3; part++) to[part] = column(dqkv, data, q, part, head);
    TRY(run_scores(be, s, qkv, q, head, NULL, e));
    TRY(cuda_product_run(be, s, &impl->of[DV], &(product_data){.a = p, .b = dyh, .c = to[2], .d = to[2]}, e));
    const product_data dp = {.a = dyh, .b = column(qkv, qkv->data, q, 2, head), .d = cuda_scratch(s, impl->dp)};
    TRY(cuda_product_run(be, s, &impl->of[DP], &dp, e));
    const softmax_bwd_args a = {.scores = cuda_scratch(s, impl->scores),
                                .dp = cuda_scratch(s, impl->dp),
                                .lse = cuda_scratch(s, impl->lse),
                                .ds = cuda_scratch(s, impl->ds),
                                .type = q->io == DTYPE_BF16 ? STORE_BF16 : STORE_F32,
                                .rows = q->n * q->s,
                                .s = q->s};
    TRY(rt_launched(k_softmax_bwd(be->stream, &a), e));
    const product_data dq = {.a = ds, .b = column(qkv, qkv->data, q, 1, head), .c = to[0], .d = to[0]};
    const product_data dk = {.a = ds, .b = column(qkv, qkv->data, q, 0, head), .c = to[1], .d = to[1]};
    TRY(cuda_product_run(be, s, &impl->of[DQ], &dq, e));
    return cuda_product_run(be, s, &impl->of[DK], &dk, e);
}

static ddpm_status attention_bwd_run(cuda_backend *be, const step *s, err *e)
{
    const attention_impl *impl = s->impl;
    const attention_problem q = problem_of(s, s->in[ATTN_BWD_QKV]);
    if (impl->fused) return run_fused_bwd(be, s, e);
    for (int head = 0; head < q.heads; head++) TRY(run_head_bwd(be, s, &q, head, e));
    return cuda_target_finish(be, s, &impl->dqkv, s->out[ATTN_BWD_DQKV], e);
}

const cuda_op cuda_attention = {.prepare = attention_prepare, .run = attention_run, .release = attention_release};
const cuda_op cuda_attention_bwd = {
    .prepare = attention_bwd_prepare, .run = attention_bwd_run, .release = attention_release};
