/* The steps around the network in a sampling loop, against the same in double. */
#include "base/mem.h"
#include "nn/nn.h"
#include "ref/ref_ops.h"
#include "sampler_init.h"
#include "sampler_step.h"
#include "support/device.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>

static err why; /* each test is a process of its own */

typedef struct sample_case {
    int n, h, w, c;
} sample_case;
static const sample_case sample_cases[] = {
#define SAMPLER(n, h, w, c) {n, h, w, c},
#include "cases.def"
};

/* t, c_skip, c_out, a, b, c, d, s, clip, flags: every term on and off, and saved before it is read */
static const sampler_row rows[] = {{999, 1.1f, -0.4f, 0.8f, 0.3f, 0, 0, 0.5f, 1, SAMPLER_SAVE_X},
                                   {500, 0.9f, 0.7f, 0.1f, 0.6f, -0.2f, 0.4f, 0, 0.5f, 0},
                                   {20, 0, 1, 0.3f, 0.2f, 0, 0.1f, 0.7f, 0, SAMPLER_SAVE_X},
                                   {0, 1, -1, 0, 1, 0.5f, 0.2f, 0.1f, 2, 0}};
static const float SCALE = 2.5f;
enum { ROWS = sizeof rows / sizeof *rows, MAX_IMAGES = 3 };
static const uint64_t SEED = 0xabcdef0123456789u;
static const int64_t ids[MAX_IMAGES] = {7, 0, 4000000000};

typedef struct rig {
    backend *be;
    plan *first, *p; /* initial noise; one step */
    tensor *x, *x0_prev, *x_saved, *model, *rows, *state, *ids, *t;
} rig;

static tensor *image(rig *r, const sample_case *c, const char *name)
{
    return plan_input(r->p, DTYPE_F32, name, c->n, c->h, c->w, c->c);
}

static void build(rig *r, const sample_case *c)
{
    r->be = test_backend(2);
    OK(plan_create(r->be, &r->p, &why));
    r->x = image(r, c, "x"), r->model = image(r, c, "model");
    r->x0_prev = image(r, c, "x0_prev"), r->x_saved = image(r, c, "x_saved");
    r->rows = plan_input(r->p, DTYPE_U8, "rows", sizeof rows, 1, 1, 1);
    r->state = plan_input(r->p, DTYPE_U8, "state", sizeof(sampler_state), 1, 1, 1);
    r->ids = plan_input(r->p, DTYPE_I64, "ids", c->n, 1, 1, 1);
    r->t = plan_input(r->p, DTYPE_F32, "t", c->n, 1, 1, 1);
    nn_sampler_next(r->p, r->rows, r->state, r->t);
    nn_sampler_step(r->p, &(nn_sampler_args){.x = r->x,
                                             .x0_prev = r->x0_prev,
                                             .x_saved = r->x_saved,
                                             .model = r->model,
                                             .rows = r->rows,
                                             .state = r->state,
                                             .ids = r->ids});
    OK(plan_finish(r->p, &why));
    OK(plan_allocate(r->p, &why));
    OK(plan_create(r->be, &r->first, &why));
    nn_sampler_init(r->first, r->x, r->state, r->ids, SCALE);
    OK(plan_finish(r->first, &why));
    OK(plan_allocate(r->first, &why));
    OK(plan_write(r->p, r->rows, rows, &why));
    OK(plan_write(r->p, r->ids, ids, &why));
    OK(plan_write(r->p, r->state, &(sampler_state){.seed = SEED, .row = -1}, &why));
}

static void expect_close(const rig *r, const tensor *got, const double *want, const char *what)
{
    float *v = test_copy(r->be, got);
    for (int64_t i = 0; i < tensor_count(got); i++)
        cr_assert(fabs((double)v[i] - want[i]) <= 1e-6 * (1 + fabs(want[i])), "%s at %lld: %.9g, not %.9g", what,
                  (long long)i, (double)v[i], want[i]);
    mem_free(v);
}

/* Every backend draws the same bits. */
static void expect_same_noise(const sample_case *c, const sampler_state *state, const float *got)
{
    const int d = c->h * c->w * c->c;
    float *x;
    OK(mem_array(&x, (size_t)c->n * (size_t)d, sizeof *x, "test", &why));
    for (int b = 0; b < c->n; b++) sampler_init_one(&(sampler_init_args){x, state, ids, c->n, d, SCALE}, b);
    cr_expect_arr_eq(got, x, (size_t)c->n * (size_t)d * sizeof *x);
    mem_free(x);
}

static double *new_copy(const tensor *t)
{
    double *copy;
    OK(mem_array(&copy, (size_t)tensor_count(t), sizeof *copy, "test", &why));
    return copy;
}

ParameterizedTestParameters(sample_ops, steps_match_double)
{
    return cr_make_param_array(sample_case, (void *)(uintptr_t)sample_cases,
                               sizeof sample_cases / sizeof *sample_cases);
}
ParameterizedTest(const sample_case *c, sample_ops, steps_match_double)
{
    rig r = {0};
    build(&r, c);
    sampler_state state = {.seed = SEED, .row = -1};
    const int d = c->h * c->w * c->c;
    const int64_t count = (int64_t)c->n * d;
    double *model = new_copy(r.x);
    ref_sample exact = {new_copy(r.x), new_copy(r.x), new_copy(r.x), model, ids, SEED, 0, c->n, d};
    ref_sampler_init(c->n, d, SEED, ids, exact.x);
    for (int64_t i = 0; i < count; i++) exact.x[i] *= (double)SCALE;
    OK(plan_run(r.first, &why));
    expect_close(&r, r.x, exact.x, "the initial noise");
    float *values = test_copy(r.be, r.x), *t = test_copy(r.be, r.t);
    expect_same_noise(c, &state, values);
    for (int64_t i = 0; i < count; i++) values[i] = NAN;
    test_upload(r.be, r.x0_prev, values);
    test_upload(r.be, r.x_saved, values);
    for (int row = 0; row < ROWS; row++) {
        for (int64_t i = 0; i < count; i++) {
            values[i] = sinf((float)(i + 100 * row));
            model[i] = (double)values[i];
        }
        test_upload(r.be, r.model, values);
        exact.row = row;
        OK(plan_run(r.p, &why));
        ref_sampler_step(&exact, &rows[row]);
        OK(plan_read(r.p, r.state, &state, &why));
        cr_expect_eq(state.row, row);
        test_download(r.be, r.t, t);
        for (int b = 0; b < c->n; b++) cr_expect_eq(t[b], rows[row].t);
        expect_close(&r, r.x, exact.x, "x");
        expect_close(&r, r.x0_prev, exact.x0_prev, "x0_prev");
        expect_close(&r, r.x_saved, exact.x_saved, "x_saved");
    }
    mem_free(values);
    mem_free(t);
    mem_free(exact.x);
    mem_free(exact.x0_prev);
    mem_free(exact.x_saved);
    mem_free(model);
    plan_destroy(r.first);
    plan_destroy(r.p);
    backend_destroy(r.be);
}
