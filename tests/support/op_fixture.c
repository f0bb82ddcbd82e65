#include "support/op_fixture.h"
#include "base/mem.h"
#include "model/params.h"
#include "noise.h"
#include "ir/operands.h"
#include "support/device.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

enum { SEED = 20, SEED_DY = 100, SEED_INITIAL_GRAD = 200 };

static const train_state dropout_state = {.seed = 77, .sample = 0xFFFFFFFEu}; /* the ordinals cross 2^32 */

static void *new_array(int64_t count, size_t size)
{
    err why = {0};
    void *a;
    OK(mem_array(&a, (size_t)count, size, "test", &why));
    return a;
}

static float normal(uint32_t what, int64_t i) { return noise_normal4(SEED, what, 0, 0, (uint32_t)(i / 4)).v[i % 4]; }

double op_initial_grad(int k, int64_t i) { return (double)test_rounded(normal((uint32_t)(SEED_INITIAL_GRAD + k), i)); }

/* N(0, 1) images; filters N(0, 1 / fan_in); scales near 1, biases near 0. */
static float drawn(const op_case *c, const tensor *t, int k, int64_t i)
{
    const float z = normal((uint32_t)k, i);
    if (t->arena == ARENA_PARAM) {
        if (t->rank > 1) return z / sqrtf((float)(t->h * t->w * t->c));
        return t->part[0].init == INIT_ONES ? 1 + 0.3f * z : 0.3f * z;
    }
    if (!op_differentiates(c, k)) return k == 0 ? (float)(i * 37 % 1000) : expf(-(float)i / 3);
    return c->op == OP_relu ? z + copysignf(0.1f, z) : z; /* away from the kink at 0 */
}

/* Element i of operand k, rounded to its type. */
static float value(const op_case *c, const tensor *t, int k, int64_t i)
{
    const float v = drawn(c, t, k, i);
    return op_differentiates(c, k) ? test_rounded(v) : v; /* t and frequencies are f32 in any precision */
}

/* ---- on the backend ---- */

typedef struct op_fixture {
    backend *be;
    op_graph g;
    params *store;
    tensor *dy;
    tensor *initial_grad[OP_OPERANDS]; /* input k is an activation: plan input with the gradient's initial value */
} op_fixture;

/* The backward pass adds to this gradient, as if the backward pass of another op had written it before. */
static void mark_grad_written(plan *p, tensor *operand)
{
    operand->grad_written = true;
    for (int i = 0; i < p->n_tensor; i++)
        if (p->tensors[i]->base == operand) p->tensors[i]->grad_written = true;
}

/* The same for an activation.  The test cannot write to its gradient, so a step of the plan copies the values. */
static void copy_initial_grad(op_fixture *f, int k)
{
    plan *p = f->g.p;
    tensor *x = f->g.activation[k];
    f->initial_grad[k] = plan_input(p, x->dtype, "initial_grad", x->n, x->h, x->w, x->c);
    x->grad = plan_like(p, x, "d");
    x->grad_written = true;
    step *s = plan_emit(p, OP_copy);
    s->in[POINT_X] = f->initial_grad[k], s->out[POINT_Y] = x->grad;
}

static void build(op_fixture *f, const op_case *c, const op_options *o)
{
    err why = {0};
    f->be = test_backend(o->threads);
    OK(plan_create(f->be, &f->g.p, &why));
    plan *p = f->g.p;
    p->training = true;
    p->packed = !o->unpacked;
    op_build(c, &f->g);
    cr_assert(plan_ok(p), "%s", p->first.text);
    const tensor *y = f->g.y;
    f->dy = plan_input(p, y->dtype, "dy", y->n, y->h, y->w, y->c);
    for (int k = 0; k < f->g.n_input; k++)
        if (o->wanted >> k & 1) plan_want_grad(p, f->g.operand[k]);
    for (int k = 0; k < f->g.n_operand; k++)
        if (o->accumulate >> k & 1 && !f->g.activation[k])
            mark_grad_written(p, f->g.operand[k]);
        else if (o->accumulate & o->wanted & 1u << k)
            copy_initial_grad(f, k);
    plan_keep(p, f->g.y);
    plan_differentiate(p, f->g.y, f->dy);
    OK(plan_finish(p, &why));
    OK(plan_allocate(p, &why));
    OK(params_create(f->be, &f->store, &why));
    OK(params_declare(f->store, p, &why));
    OK(params_allocate(f->store, true, false, &why));
    OK(params_bind(f->store, p, ARENA_PARAM, &why));
}

static void count_layouts(const tensor *t, op_result *out)
{
    for (int i = 0; i < 2 && t; i++, t = t->grad) {
        out->n_activation++;
        out->n_blocked += t->layout == LAYOUT_BLOCKED;
    }
}

/* Parameters are written through the store, as checkpoints do; gaps between them stay 0. */
static void write_operand(op_fixture *f, const op_case *c, int k)
{
    const tensor *t = f->g.operand[k];
    const int64_t count = tensor_count(t);
    float *v = new_array(count, sizeof *v);
    for (int64_t i = 0; i < count; i++) v[i] = value(c, t, k, i);
    test_upload(f->be, t, v);
    mem_free(v);
}

static void write_initial_grad(op_fixture *f, op_grad_init init, const tensor *g, int k)
{
    if (!g) return;
    float *v = new_array(tensor_count(g), sizeof *v);
    for (int64_t i = 0; i < tensor_count(g); i++) v[i] = init == OP_GRAD_NAN ? NAN : (float)op_initial_grad(k, i);
    test_upload(f->be, g, v);
    mem_free(v);
}

static float *read_tensor(op_fixture *f, const tensor *t)
{
    float *v = new_array(tensor_count(t), sizeof *v);
    test_download(f->be, t, v);
    return v;
}

static void write_labels(op_fixture *f, const op_case *c)
{
    err why = {0};
    if (!f->g.labels) return;
    int64_t *labels = new_array(c->n, sizeof *labels);
    for (int b = 0; b < c->n; b++) labels[b] = op_label(c, b);
    OK(plan_write(f->g.p, f->g.labels, labels, &why));
    mem_free(labels);
}

op_result op_run(const op_case *c, const op_options *o)
{
    err why = {0};
    op_fixture f = {0};
    build(&f, c, o);
    op_result out = {.n_operand = f.g.n_operand, .n_input = f.g.n_input, .y_count = tensor_count(f.g.y)};
    for (int k = 0; k < f.g.n_operand; k++)
        write_operand(&f, c, k), write_initial_grad(&f, o->grad_init, f.g.operand[k]->grad, k);
    for (int k = 0; k < f.g.n_input; k++)
        write_initial_grad(&f, OP_GRAD_RANDOM, f.initial_grad[k], k), count_layouts(f.g.activation[k], &out);
    count_layouts(f.g.y_activation, &out);
    write_initial_grad(&f, OP_GRAD_NAN, f.g.y, 0);
    float *dy = new_array(out.y_count, sizeof *dy);
    for (int64_t i = 0; i < out.y_count; i++) dy[i] = test_rounded(normal(SEED_DY, i));
    test_upload(f.be, f.dy, dy);
    write_labels(&f, c);
    if (f.g.state) OK(plan_write(f.g.p, f.g.state, &dropout_state, &why));
    f.store->stale = true; /* the parameters were written directly, not through the store */
    OK(params_refresh(f.store, ARENA_PARAM, &why));
    OK(plan_run(f.g.p, &why));
    out.y = read_tensor(&f, f.g.y);
    for (int k = 0; k < f.g.n_operand; k++) {
        out.count[k] = tensor_count(f.g.operand[k]);
        if (f.g.operand[k]->grad) out.grad[k] = read_tensor(&f, f.g.operand[k]->grad);
    }
    mem_free(dy);
    plan_destroy(f.g.p);
    params_destroy(f.store);
    backend_destroy(f.be);
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
    op_fixture f = {0};
    OK(backend_create(&(backend_spec){.device = "cpu", .threads = 1}, &f.be, &why));
    OK(plan_create(f.be, &f.g.p, &why));
    op_build(c, &f.g);
    cr_assert(plan_ok(f.g.p), "%s", f.g.p->first.text);
    op_exact x = {.c = *c, .n_operand = f.g.n_operand, .y_count = tensor_count(f.g.y)};
    x.y = new_array(x.y_count, sizeof *x.y);
    x.dy = new_array(x.y_count, sizeof *x.dy);
    for (int64_t i = 0; i < x.y_count; i++) x.dy[i] = (double)test_rounded(normal(SEED_DY, i));
    for (int k = 0; k < x.n_operand; k++) {
        x.count[k] = tensor_count(f.g.operand[k]);
        x.operand[k] = new_array(x.count[k], sizeof *x.operand[k]);
        for (int64_t i = 0; i < x.count[k]; i++) x.operand[k][i] = (double)value(c, f.g.operand[k], k, i);
    }
    plan_destroy(f.g.p);
    backend_destroy(f.be);
    return x;
}

void op_exact_free(op_exact *x)
{
    mem_free(x->y);
    mem_free(x->dy);
    for (int k = 0; k < x->n_operand; k++) mem_free(x->operand[k]);
}

void op_exact_run(op_exact *x) { op_reference(&x->c, x->operand, &dropout_state, x->y); }

/* sum(y dy) with operand k displaced by s direction */
static double sum_at(op_exact *x, int k, const double *direction, double s)
{
    double *original = x->operand[k], sum = 0;
    double *displaced = new_array(x->count[k], sizeof *displaced);
    for (int64_t i = 0; i < x->count[k]; i++) displaced[i] = original[i] + s * direction[i];
    x->operand[k] = displaced;
    op_exact_run(x);
    x->operand[k] = original;
    mem_free(displaced);
    for (int64_t i = 0; i < x->y_count; i++) sum += x->y[i] * x->dy[i];
    return sum;
}

double op_exact_slope(op_exact *x, int k, const double *direction)
{
    const double s = 0x1p-10;
    const double near = sum_at(x, k, direction, s) - sum_at(x, k, direction, -s);
    const double far = sum_at(x, k, direction, 2 * s) - sum_at(x, k, direction, -2 * s);
    return (8 * near - far) / (12 * s);
}
