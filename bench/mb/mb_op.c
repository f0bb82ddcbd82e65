/* mb_op.c - one op forward and backward, in enough copies to exceed the L2 cache together. */
#include "base/mem.h"
#include "mb.h"
#ifdef MB_CUDA
#include "backend/cuda/cuda_backend.h"
#endif

#include <math.h>
#include <stdio.h>
#include <string.h>

static size_t cache_bytes(const backend *be)
{
#ifdef MB_CUDA
    if (mb_on_cuda(be)) return ((const cuda_backend *)be)->device.l2;
#endif
    return 0;
}

/* Scales near 1, biases near 0, filters N(0, 1 / fan_in): a network with gamma = 1 and beta = 0 hides errors. */
fill op_param_fill(const tensor *t, int index)
{
    const int stream = STREAM_PARAM + index;
    if (t->rank > 1) return (fill){stream, 1 / sqrt((double)(t->h * t->w * t->c)), 0};
    return (fill){stream, 0.3, t->part[0].init == INIT_ONES ? 1 : 0};
}

static const tensor *param_of(const plan *p, int index)
{
    for (int i = 0; i < p->n_tensor; i++)
        if (p->tensors[i]->arena == ARENA_PARAM && index-- == 0) return p->tensors[i];
    return NULL;
}

const tensor *op_param(const op_bench *b, int index) { return param_of(b->p[0], index); }

typedef struct copy {
    tensor *in[OP_INPUTS], *y, *dy;
} copy;

static ddpm_status build(op_bench *b, int k, op_builder *op, const void *shape, copy *c, err *e)
{
    TRY(plan_create(b->be, &b->p[k], e));
    plan *p = b->p[k];
    p->training = true;
    c->y = op(p, shape, c->in);
    if (!c->y) return err_set(e, p->first.status, "%s", p->first.text);
    for (int i = 0; i < OP_INPUTS; i++) plan_want_grad(p, c->in[i]);
    c->dy = plan_input(p, c->y->dtype, "dy", c->y->n, c->y->h, c->y->w, c->y->c);
    plan_keep(p, c->y);
    plan_differentiate(p, c->y, c->dy);
    return plan_finish(p, e);
}

static ddpm_status fill_params(op_bench *b, int k, err *e)
{
    plan *p = b->p[k];
    TRY(params_create(b->be, &b->store[k], e));
    params *s = b->store[k];
    TRY(params_declare(s, p, e));
    TRY(params_allocate(s, true, false, e));
    TRY(params_bind(s, p, ARENA_PARAM, e));
    for (int i = 0; param_of(p, i); i++) {
        const tensor *t = param_of(p, i);
        TRY(mb_fill(b->be, t->data, DTYPE_F32, tensor_count(t), op_param_fill(t, i), e));
    }
    s->stale = true;
    return params_refresh(s, ARENA_PARAM, e);
}

static ddpm_status add_copy(op_bench *b, op_builder *op, const void *shape, copy *c, err *e)
{
    const int k = b->copies++;
    TRY(build(b, k, op, shape, c, e));
    TRY(plan_allocate(b->p[k], e));
    TRY(fill_params(b, k, e));
    for (int i = 0; i < OP_INPUTS; i++)
        if (c->in[i]) TRY(mb_fill(b->be, c->in[i]->data, c->in[i]->dtype, tensor_count(c->in[i]), (fill){i, 1, 0}, e));
    return mb_fill(b->be, c->dy->data, c->dy->dtype, tensor_count(c->dy), (fill){STREAM_DY, 1, 0}, e);
}

static ddpm_status list(op_bench *b, err *e)
{
    const plan *p = b->p[0];
    const int back = p->n_step - p->n_forward;
    b->n_forward = p->n_forward * b->copies;
    b->n_backward = back * b->copies;
    TRY(mem_array(&b->forward, (size_t)b->n_forward, sizeof *b->forward, "steps", e));
    TRY(mem_array(&b->backward, (size_t)b->n_backward, sizeof *b->backward, "steps", e));
    for (int k = 0; k < b->copies; k++) {
        memcpy(b->forward + k * p->n_forward, b->p[k]->steps, (size_t)p->n_forward * sizeof *b->forward);
        memcpy(b->backward + k * back, b->p[k]->steps + p->n_forward, (size_t)back * sizeof *b->backward);
    }
    return DDPM_OK;
}

ddpm_status op_create(backend *be, op_builder *op, const void *shape, op_bench *out, err *e)
{
    copy first = {.y = NULL}, other = {.y = NULL};
    ddpm_status st = DDPM_OK;
    *out = (op_bench){.be = be};
    TRY_GOTO(add_copy(out, op, shape, &first, e));
    const size_t bytes = out->p[0]->bytes[ARENA_ACT] + out->p[0]->bytes[ARENA_IO];
    while (out->copies < OP_COPIES && (size_t)out->copies * bytes < 3 * cache_bytes(be))
        TRY_GOTO(add_copy(out, op, shape, &other, e));
    memcpy(out->in, first.in, sizeof out->in);
    out->y = first.y, out->dy = first.dy;
    TRY_GOTO(list(out, e));
done:
    if (st != DDPM_OK) op_destroy(out);
    return st;
}

void op_destroy(op_bench *b)
{
    for (int k = 0; k < b->copies; k++) {
        plan_destroy(b->p[k]);
        params_destroy(b->store[k]);
    }
    mem_free(b->forward); /* after the plans: the backend identifies its graphs by these lists */
    mem_free(b->backward);
    *b = (op_bench){0};
}

ddpm_status op_run_first(op_bench *b, err *e) { return plan_run(b->p[0], e); }

static void of_one_copy(timing *t, int copies)
{
    t->median /= copies, t->p10 /= copies, t->p90 /= copies, t->min /= copies, t->max /= copies;
}

ddpm_status op_time(const mb_run *r, op_bench *b, op_times *out, err *e)
{
    TRY(time_steps(r, b->be, b->forward, b->n_forward, &out->forward, e));
    TRY(time_steps(r, b->be, b->backward, b->n_backward, &out->backward, e));
    of_one_copy(&out->forward, b->copies);
    of_one_copy(&out->backward, b->copies);
    return DDPM_OK;
}

ddpm_status op_measure(mb_run *r, const op_variant *v, const void *shape, op_times *times, err *e)
{
    op_bench b;
    bool good;
    ddpm_status st = DDPM_OK;
    TRY(op_create(v->be, v->build, shape, &b, e));
    json_out_open(&r->json, v->name, '{');
    TRY_GOTO(v->check(r, shape, &b, &good, e));
    TRY_GOTO(op_time(r, &b, times, e));
    timing_put(&r->json, "forward", &times->forward);
    timing_put(&r->json, "backward", &times->backward);
    printf("  %s %.4f + %.4f ms%s", v->name, times->forward.median, times->backward.median, good ? "" : " WRONG");
done:
    json_out_close(&r->json, '}');
    op_destroy(&b);
    return st;
}
