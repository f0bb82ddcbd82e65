#include "support/op_rig.h"
#include "base/mem.h"
#include "model/params.h"
#include "noise.h"
#include "ir/operands.h"
#include "support/device.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { SEED = 20, SEED_DY = 100, SEED_BEFORE = 200 };

static const train_state dropout_state = {.seed = 77, .sample = 0xFFFFFFFEu}; /* the ordinals cross 2^32 */

static void *new_array(int64_t count, size_t size)
{
    err why = {0};
    void *a;
    OK(mem_array(&a, (size_t)count, size, "test", &why));
    return a;
}

static float normal(uint32_t what, int64_t i) { return noise_normal4(SEED, what, 0, 0, (uint32_t)(i / 4)).v[i % 4]; }

double op_before_value(int k, int64_t i) { return (double)test_rounded(normal((uint32_t)(SEED_BEFORE + k), i)); }

/* N(0, 1) images; filters N(0, 1 / fan_in); scales near 1, biases near 0. */
static float drawn(const op_case *c, const tensor *t, int k, int64_t i)
{
    const float z = normal((uint32_t)k, i);
    if (t->arena == ARENA_PARAM) {
        if (t->rank > 1) return z / sqrtf((float)(t->h * t->w * t->c));
        return t->part[0].init == INIT_ONES ? 1 + 0.3f * z : 0.3f * z;
    }
    if (!op_differentiates(c, k)) return k == 0 ? (float)(i * 37 % 1000) : expf(-(float)i / 3);
    return c->op == OP_relu ? z + copysignf(0.1f, z) : z; /* off the kink */
}

/* Element i of operand k, as its type can hold it. */
static float value(const op_case *c, const tensor *t, int k, int64_t i)
{
    const float v = drawn(c, t, k, i);
    return op_differentiates(c, k) ? test_rounded(v) : v; /* t and frequencies are f32 in any precision */
}

/* ---- on the backend ---- */

typedef struct rig {
    backend *be;
    op_graph g;
    params *store;
    tensor *dy, *before[OP_OPERANDS]; /* before: what the gradient of an inner operand starts with */
} rig;

/* As if the backward pass of another op had set that gradient, or a part of it, before. */
static void mark_written(plan *p, tensor *operand)
{
    operand->grad_written = true;
    for (int i = 0; i < p->n_tensor; i++)
        if (p->tensors[i]->base == operand) p->tensors[i]->grad_written = true;
}

/* The same of an inner operand, whose memory nobody outside can fill. */
static void start_with(rig *r, int k)
{
    plan *p = r->g.p;
    tensor *inner = r->g.inner[k];
    r->before[k] = plan_input(p, inner->dtype, "before", inner->n, inner->h, inner->w, inner->c);
    inner->grad = plan_like(p, inner, "d");
    inner->grad_written = true;
    step *s = plan_emit(p, OP_copy);
    s->in[POINT_X] = r->before[k], s->out[POINT_Y] = inner->grad;
}

static void build(rig *r, const op_case *c, const op_options *o)
{
    err why = {0};
    r->be = test_backend(o->threads);
    OK(plan_create(r->be, &r->g.p, &why));
    plan *p = r->g.p;
    p->training = true;
    p->packed = !o->unpacked;
    op_build(c, &r->g);
    cr_assert(plan_ok(p), "%s", p->first.text);
    const tensor *y = r->g.y;
    r->dy = plan_input(p, y->dtype, "dy", y->n, y->h, y->w, y->c);
    for (int k = 0; k < r->g.n_input; k++)
        if (o->only >> k & 1) plan_want_grad(p, r->g.operand[k]);
    for (int k = 0; k < r->g.n_operand; k++)
        if (o->add >> k & 1 && !r->g.inner[k])
            mark_written(p, r->g.operand[k]);
        else if (o->add & o->only & 1u << k)
            start_with(r, k);
    plan_keep(p, r->g.y);
    plan_differentiate(p, r->g.y, r->dy);
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
    OK(params_create(r->be, &r->store, &why));
    OK(params_declare(r->store, p, &why));
    OK(params_allocate(r->store, true, false, &why));
    OK(params_bind(r->store, p, ARENA_PARAM, &why));
}

static void count_layouts(const tensor *t, op_result *out)
{
    for (int i = 0; i < 2 && t; i++, t = t->grad) {
        out->n_inner++;
        out->n_blocked += t->layout == LAYOUT_BLOCKED;
    }
}

/* Through the store, as checkpoints do; its gaps stay 0. */
static void write_operand(rig *r, const op_case *c, int k)
{
    const tensor *t = r->g.operand[k];
    const int64_t count = tensor_count(t);
    float *v = new_array(count, sizeof *v);
    for (int64_t i = 0; i < count; i++) v[i] = value(c, t, k, i);
    test_upload(r->be, t, v);
    mem_free(v);
}

static void write_before(rig *r, op_before before, const tensor *g, int k)
{
    if (!g) return;
    float *v = new_array(tensor_count(g), sizeof *v);
    for (int64_t i = 0; i < tensor_count(g); i++) v[i] = before == OP_BEFORE_NAN ? NAN : (float)op_before_value(k, i);
    test_upload(r->be, g, v);
    mem_free(v);
}

static float *read_tensor(rig *r, const tensor *t)
{
    float *v = new_array(tensor_count(t), sizeof *v);
    test_download(r->be, t, v);
    return v;
}

op_result op_run(const op_case *c, const op_options *o)
{
    err why = {0};
    rig r = {0};
    build(&r, c, o);
    op_result out = {.n_operand = r.g.n_operand, .n_input = r.g.n_input, .y_count = tensor_count(r.g.y)};
    for (int k = 0; k < r.g.n_operand; k++)
        write_operand(&r, c, k), write_before(&r, o->before, r.g.operand[k]->grad, k);
    for (int k = 0; k < r.g.n_input; k++)
        write_before(&r, OP_BEFORE_RANDOM, r.before[k], k), count_layouts(r.g.inner[k], &out);
    count_layouts(r.g.inner_y, &out);
    write_before(&r, OP_BEFORE_NAN, r.g.y, 0);
    float *dy = new_array(out.y_count, sizeof *dy);
    for (int64_t i = 0; i < out.y_count; i++) dy[i] = test_rounded(normal(SEED_DY, i));
    test_upload(r.be, r.dy, dy);
    if (r.g.state) OK(plan_write(r.g.p, r.g.state, &dropout_state, &why));
    r.store->stale = true; /* written behind its back */
    OK(params_refresh(r.store, ARENA_PARAM, &why));
    OK(plan_run(r.g.p, &why));
    out.y = read_tensor(&r, r.g.y);
    for (int k = 0; k < r.g.n_operand; k++) {
        out.count[k] = tensor_count(r.g.operand[k]);
        if (r.g.operand[k]->grad) out.grad[k] = read_tensor(&r, r.g.operand[k]->grad);
    }
    mem_free(dy);
    plan_destroy(r.g.p);
    params_destroy(r.store);
    backend_destroy(r.be);
    return out;
}

void op_result_free(op_result *r)
{
    mem_free(r->y);
    for (int k = 0; k < r->n_operand; k++) mem_free(r->grad[k]);
}

/* ---- in double ---- */

op_exact op_exact_create(const op_case *c)
{
    err why = {0};
    rig r = {0};
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &r.be, &why));
    OK(plan_create(r.be, &r.g.p, &why));
    op_build(c, &r.g);
    cr_assert(plan_ok(r.g.p), "%s", r.g.p->first.text);
    op_exact x = {.c = *c, .n_operand = r.g.n_operand, .y_count = tensor_count(r.g.y)};
    x.y = new_array(x.y_count, sizeof *x.y);
    x.dy = new_array(x.y_count, sizeof *x.dy);
    for (int64_t i = 0; i < x.y_count; i++) x.dy[i] = (double)test_rounded(normal(SEED_DY, i));
    for (int k = 0; k < x.n_operand; k++) {
        x.count[k] = tensor_count(r.g.operand[k]);
        x.operand[k] = new_array(x.count[k], sizeof *x.operand[k]);
        for (int64_t i = 0; i < x.count[k]; i++) x.operand[k][i] = (double)value(c, r.g.operand[k], k, i);
    }
    plan_destroy(r.g.p);
    backend_destroy(r.be);
    return x;
}

void op_exact_free(op_exact *x)
{
    mem_free(x->y);
    mem_free(x->dy);
    for (int k = 0; k < x->n_operand; k++) mem_free(x->operand[k]);
}

void op_exact_run(op_exact *x) { op_reference(&x->c, x->operand, &dropout_state, x->y); }

static double moved(op_exact *x, int k, const double *direction, double s)
{
    double *mine = x->operand[k], sum = 0;
    double *there = new_array(x->count[k], sizeof *there);
    for (int64_t i = 0; i < x->count[k]; i++) there[i] = mine[i] + s * direction[i];
    x->operand[k] = there;
    op_exact_run(x);
    x->operand[k] = mine;
    mem_free(there);
    for (int64_t i = 0; i < x->y_count; i++) sum += x->y[i] * x->dy[i];
    return sum;
}

double op_exact_slope(op_exact *x, int k, const double *direction)
{
    const double s = 0x1p-10;
    const double near = moved(x, k, direction, s) - moved(x, k, direction, -s);
    const double far = moved(x, k, direction, 2 * s) - moved(x, k, direction, -2 * s);
    return (8 * near - far) / (12 * s);
}
