/* cpu_attention.c - softmax attention: a thread computes one (image, head) at a time, in blocks of query rows.
 *
 * Only the scores of one block of rows are ever stored; the backward pass recomputes them from the stored
 * log-sum-exp (Dao et al. 2022, arXiv:2205.14135, algorithm 4 without the tiling of the keys). */
#include "backend/cpu/cpu_backend.h"
#include "math/elementary.h"

#include <math.h>
#include <omp.h>

enum { ROWS = 64 };

typedef struct attn {
    int64_t n, s, c, d; /* images, positions, channels, channels per head */
    int heads;
    float scale; /* 1 / sqrt(d) */
} attn;

static attn attn_of(const tensor *qkv, int heads)
{
    attn a = {.n = qkv->n, .s = tensor_hw(qkv), .c = qkv->c / 3, .heads = heads};
    a.d = a.c / heads;
    a.scale = (float)(1.0 / sqrt((double)a.d));
    return a;
}

static size_t scores_floats(const tensor *qkv) { return (size_t)(ROWS * tensor_hw(qkv)); }

static ddpm_status gemm(bool ta, bool tb, int64_t m, int64_t n, int64_t k, const onednn_gemm_args *rest, err *e)
{
    onednn_gemm_args g = *rest;
    g.transpose_a = ta, g.transpose_b = tb, g.m = m, g.n = n, g.k = k;
    return onednn_gemm(&g, e);
}

/* Softmax over rows in place: scores to probabilities; lse[r] = log sum exp of row r. */
static void softmax(float *p, int64_t rows, int64_t s, float *lse)
{
    for (int64_t r = 0; r < rows; r++) {
        float *row = p + r * s, top = row[0], sum = 0;
#pragma omp simd reduction(max : top)
        for (int64_t i = 0; i < s; i++) top = row[i] > top ? row[i] : top;
        for (int64_t i = 0; i < s; i++) row[i] = exp_f32(row[i] - top);
        for (int64_t i = 0; i < s; i++) sum += row[i];
        const float inverse = 1.0f / sum;
        for (int64_t i = 0; i < s; i++) row[i] *= inverse;
        lse[r] = top + logf(sum);
    }
}

static ddpm_status forward_head(const attn *a, const float *q, float *y, float *lse, float *scores, err *e)
{
    const float *k = q + a->c, *v = k + a->c;
    const int64_t ld = 3 * a->c;
    for (int64_t from = 0; from < a->s; from += ROWS) {
        const int64_t rows = from + ROWS < a->s ? ROWS : a->s - from;
        TRY(gemm(false, true, rows, a->s, a->d,
                 &(onednn_gemm_args){
                     .alpha = a->scale, .a = q + from * ld, .b = k, .c = scores, .lda = ld, .ldb = ld, .ldc = a->s},
                 e));
        softmax(scores, rows, a->s, lse + from);
        TRY(gemm(false, false, rows, a->d, a->s,
                 &(onednn_gemm_args){
                     .alpha = 1, .a = scores, .b = v, .c = y + from * a->c, .lda = a->s, .ldb = ld, .ldc = a->c},
                 e));
    }
    return DDPM_OK;
}

static ddpm_status attention_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    *scratch = (size_t)be->threads * scores_floats(s->in[ATTN_QKV]) * sizeof(float);
    return DDPM_OK;
}

static ddpm_status attention_run(cpu_backend *be, const step *s, err *e)
{
    const attn a = attn_of(s->in[ATTN_QKV], s->a.attention.heads);
    const float *qkv = s->in[ATTN_QKV]->data;
    float *y = s->out[ATTN_Y]->data, *lse = s->out[ATTN_LSE]->data, *scratch = s->scratch->data;
    const size_t slot = scores_floats(s->in[ATTN_QKV]);
    ddpm_status worst = DDPM_OK;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t image = 0; image < a.n; image++)
        for (int h = 0; h < a.heads; h++) {
            err why = {0};
            const ddpm_status st =
                forward_head(&a, qkv + image * a.s * 3 * a.c + h * a.d, y + image * a.s * a.c + h * a.d,
                             lse + (image * a.heads + h) * a.s, scratch + slot * (size_t)omp_get_thread_num(), &why);
            if (st == DDPM_OK) continue;
#pragma omp critical
            {
                worst = st;
                err_set(e, st, "%s", why.text);
            }
        }
    return worst;
}

/* ---- backward: for each block of query rows
 *   P = exp(scale q k^T - lse),  dP = dy v^T,  dS = P (dP - rowsum(dy y)) scale
 *   dq = dS k,   dk += dS^T q,   dv += P^T dy */

typedef struct head_grads {
    const float *q, *y, *dy, *lse;
    float *dq, *p, *dp; /* p, dp: workspace [ROWS, s] */
    bool add;
} head_grads;

static void score_gradients(const attn *a, const head_grads *g, int64_t from, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        const float *y = g->y + (from + r) * a->c, *dy = g->dy + (from + r) * a->c, lse = g->lse[from + r];
        float *p = g->p + r * a->s, *dp = g->dp + r * a->s, dot = 0;
        for (int64_t i = 0; i < a->d; i++) dot += y[i] * dy[i];
        for (int64_t i = 0; i < a->s; i++) {
            p[i] = exp_f32(p[i] - lse);
            dp[i] = p[i] * (dp[i] - dot) * a->scale;
        }
    }
}

static ddpm_status backward_head(const attn *a, const head_grads *g, err *e)
{
    const float *k = g->q + a->c, *v = k + a->c;
    float *dk = g->dq + a->c, *dv = dk + a->c;
    const int64_t ld = 3 * a->c, c = a->c, s = a->s, d = a->d;
    const float first = g->add ? 1 : 0;
    for (int64_t from = 0; from < s; from += ROWS) {
        const int64_t rows = from + ROWS < s ? ROWS : s - from;
        const float later = from == 0 ? first : 1;
        const float *q = g->q + from * ld, *dy = g->dy + from * c;
        TRY(gemm(false, true, rows, s, d,
                 &(onednn_gemm_args){.alpha = a->scale, .a = q, .b = k, .c = g->p, .lda = ld, .ldb = ld, .ldc = s}, e));
        TRY(gemm(false, true, rows, s, d,
                 &(onednn_gemm_args){.alpha = 1, .a = dy, .b = v, .c = g->dp, .lda = c, .ldb = ld, .ldc = s}, e));
        score_gradients(a, g, from, rows);
        TRY(gemm(
            false, false, rows, d, s,
            &(onednn_gemm_args){
                .alpha = 1, .beta = first, .a = g->dp, .b = k, .c = g->dq + from * ld, .lda = s, .ldb = ld, .ldc = ld},
            e));
        TRY(gemm(
            true, false, s, d, rows,
            &(onednn_gemm_args){.alpha = 1, .beta = later, .a = g->dp, .b = q, .c = dk, .lda = s, .ldb = ld, .ldc = ld},
            e));
        TRY(gemm(
            true, false, s, d, rows,
            &(onednn_gemm_args){.alpha = 1, .beta = later, .a = g->p, .b = dy, .c = dv, .lda = s, .ldb = c, .ldc = ld},
            e));
    }
    return DDPM_OK;
}

static ddpm_status attention_bwd_prepare(cpu_backend *be, step *s, size_t *scratch, err *e)
{
    *scratch = 2 * (size_t)be->threads * scores_floats(s->in[ATTN_BWD_QKV]) * sizeof(float);
    return DDPM_OK;
}

static ddpm_status attention_bwd_run(cpu_backend *be, const step *s, err *e)
{
    const attn a = attn_of(s->in[ATTN_BWD_QKV], s->a.attention.heads);
    const size_t slot = scores_floats(s->in[ATTN_BWD_QKV]);
    const float *qkv = s->in[ATTN_BWD_QKV]->data, *y = s->in[ATTN_BWD_Y]->data, *dy = s->in[ATTN_BWD_DY]->data;
    const float *lse = s->in[ATTN_BWD_LSE]->data;
    float *dqkv = s->out[ATTN_BWD_DQKV]->data, *scratch = s->scratch->data;
    ddpm_status worst = DDPM_OK;
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t image = 0; image < a.n; image++)
        for (int h = 0; h < a.heads; h++) {
            err why = {0};
            const int64_t wide = image * a.s * 3 * a.c + h * a.d, narrow = image * a.s * a.c + h * a.d;
            float *mine = scratch + 2 * slot * (size_t)omp_get_thread_num();
            const head_grads g = {.q = qkv + wide,
                                  .y = y + narrow,
                                  .dy = dy + narrow,
                                  .lse = lse + (image * a.heads + h) * a.s,
                                  .dq = dqkv + wide,
                                  .p = mine,
                                  .dp = mine + slot,
                                  .add = step_adds(s, ATTN_BWD_DQKV)};
            const ddpm_status st = backward_head(&a, &g, &why);
            if (st == DDPM_OK) continue;
#pragma omp critical
            {
                worst = st;
                err_set(e, st, "%s", why.text);
            }
        }
    return worst;
}

const cpu_op cpu_attention = {attention_prepare, attention_run, NULL};
const cpu_op cpu_attention_bwd = {attention_bwd_prepare, attention_bwd_run, NULL};
