/* mb_attention.c - mb4: attention by cuDNN's fused kernels and by matrix products, forward and backward. */
#include "mb.h"
#include "ir/operands.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LONGEST = 1024, CHECKED = 3 };

typedef struct attention_shape {
    int64_t n, side; /* side x side positions */
    int heads, d;
} attention_shape;

static const attention_shape grid[] = {
    {0, 4, 8, 32},  {0, 4, 1, 256}, {0, 4, 1, 512},  {0, 8, 8, 32},   {0, 8, 4, 64},   {0, 8, 1, 256},
    {0, 16, 6, 32}, {0, 16, 4, 64}, {0, 16, 2, 128}, {0, 16, 1, 256}, {0, 16, 1, 512},
};
enum { SHAPES = sizeof grid / sizeof grid[0] };

static tensor *build_attention(plan *p, const void *shape, tensor *in[OP_INPUTS])
{
    const attention_shape *s = shape;
    in[0] = plan_input(p, p->be->act, "qkv", s->n, s->side, s->side, 3LL * s->heads * s->d);
    return nn_attention(p, in[0], s->heads);
}

/* ---- the reference: Vaswani et al. 2017, eq. 1, one query or key at a time, in double ---- */

typedef struct reference {
    const attention_shape *s;
    dtype d;
    int64_t n; /* the image and head that are checked */
    int head;
} reference;

enum { Q, K, V };

static int64_t positions(const reference *f) { return f->s->side * f->s->side; }

static double qkv(const reference *f, int which, int64_t at, int i)
{
    const int64_t c = (int64_t)f->s->heads * f->s->d;
    return mb_value(0, (f->n * positions(f) + at) * 3 * c + which * c + f->head * f->s->d + i, f->d);
}

static double dy(const reference *f, int64_t at, int i)
{
    const int64_t c = (int64_t)f->s->heads * f->s->d;
    return mb_value(STREAM_DY, (f->n * positions(f) + at) * c + f->head * f->s->d + i, f->d);
}

/* p[]: the softmax of query `at`; dp[]: the gradient of its logits. */
static void probabilities(const reference *f, int64_t at, double *p, double *dlogit)
{
    const double scale = 1 / sqrt((double)f->s->d);
    double top = -INFINITY, sum = 0, mean = 0;
    for (int64_t j = 0; j < positions(f); j++) {
        p[j] = dlogit[j] = 0;
        for (int i = 0; i < f->s->d; i++) {
            p[j] += scale * qkv(f, Q, at, i) * qkv(f, K, j, i);
            dlogit[j] += dy(f, at, i) * qkv(f, V, j, i);
        }
        top = fmax(top, p[j]);
    }
    for (int64_t j = 0; j < positions(f); j++) sum += p[j] = exp(p[j] - top);
    for (int64_t j = 0; j < positions(f); j++) mean += (p[j] /= sum) * dlogit[j];
    for (int64_t j = 0; j < positions(f); j++) dlogit[j] = p[j] * (dlogit[j] - mean);
}

typedef struct found {
    agreement y, dqkv;
} found;

static ddpm_status read_dqkv(const reference *f, const op_bench *b, int which, const int64_t at[2], double want,
                             found *out, err *e)
{
    const int64_t c = (int64_t)f->s->heads * f->s->d;
    const tensor *g = b->in[0]->grad;
    double got;
    TRY(mb_read(b->be, g->data, g->dtype, (f->n * positions(f) + at[0]) * 3 * c + which * c + f->head * f->s->d + at[1],
                &got, e));
    agree(&out->dqkv, got, want);
    return DDPM_OK;
}

/* One element each of y, dq, dk and dv, all in channel i at position `at`. */
static ddpm_status check_at(const reference *f, const op_bench *b, int64_t at, int i, found *out, err *e)
{
    static double p[LONGEST], dlogit[LONGEST];
    const double scale = 1 / sqrt((double)f->s->d);
    const int64_t place[2] = {at, i};
    double y = 0, dq = 0, dk = 0, dv = 0, got;
    for (int64_t j = 0; j < positions(f); j++) { /* j is the query */
        probabilities(f, j, p, dlogit);
        dk += scale * dlogit[at] * qkv(f, Q, j, i);
        dv += p[at] * dy(f, j, i);
    }
    probabilities(f, at, p, dlogit);
    for (int64_t j = 0; j < positions(f); j++) {
        y += p[j] * qkv(f, V, j, i);
        dq += scale * dlogit[j] * qkv(f, K, j, i);
    }
    TRY(mb_read(b->be, b->y->data, b->y->dtype, ((f->n * positions(f) + at) * f->s->heads + f->head) * f->s->d + i,
                &got, e));
    agree(&out->y, got, y);
    TRY(read_dqkv(f, b, Q, place, dq, out, e));
    TRY(read_dqkv(f, b, K, place, dk, out, e));
    return read_dqkv(f, b, V, place, dv, out, e);
}

static ddpm_status check(mb_run *r, const void *shape, op_bench *b, bool *good, err *e)
{
    const attention_shape *s = shape;
    found got = {.y = {0}};
    TRY(op_run_first(b, e));
    for (int k = 0; k < CHECKED; k++) {
        const reference f = {s, b->y->dtype, mb_pick(k, s->n), (int)mb_pick(k, s->heads)};
        TRY(check_at(&f, b, mb_pick(k + 2, s->side * s->side), (int)mb_pick(k + 3, s->d), &got, e));
    }
    const double tolerance = 2 * mb_tolerance(b->y->dtype, r->o->backend.precision == PRECISION_TF32);
    *good = mb_check(r, "error_y", &got.y, tolerance);
    *good &= mb_check(r, "error_dqkv", &got.dqkv, tolerance);
    return DDPM_OK;
}

static ddpm_status row(mb_run *r, backend *products, const char *name, const attention_shape *s, err *e)
{
    const op_variant chosen = {r->be, "chosen", build_attention, check}, /* cuDNN's fused kernels where available */
        unfused = {products, "products", build_attention, check};
    op_times fused, plain;
    ddpm_status st = DDPM_OK;
    printf("%-28s", name);
    json_out_open(&r->json, NULL, '{');
    json_out_text(&r->json, "shape", name);
    TRY_GOTO(op_measure(r, &chosen, s, &fused, e));
    TRY_GOTO(op_measure(r, &unfused, s, &plain, e));
    printf("  %.2fx as fast\n",
           (plain.forward.median + plain.backward.median) / (fused.forward.median + fused.backward.median));
done:
    json_out_close(&r->json, '}');
    return st;
}

ddpm_status mb_attention(mb_run *r, err *e)
{
    backend *products = NULL;
    backend_spec spec = r->o->backend;
    ddpm_status st = DDPM_OK;
#ifdef MB_CUDA
    spec.disabled |= CUDA_OPT_SDPA;
#endif
    json_out_open(&r->json, "rows", '[');
    TRY_GOTO(backend_create(&spec, &products, e));
    for (int k = 0; k < SHAPES; k++) {
        attention_shape s = grid[k];
        char name[80];
        s.n = r->o->config.train.batch;
        (void)snprintf(name, sizeof name, "n%lld s%lld h%d d%d", (long long)s.n, (long long)(s.side * s.side), s.heads,
                       s.d);
        if (mb_wanted(r, name)) TRY_GOTO(row(r, products, name, &s, e));
    }
done:
    json_out_close(&r->json, ']');
    backend_destroy(products);
    return st;
}
