/* The steps around the network in a sampling loop, against the same in double. */
#include "base/mem.h"
#include "ir/operands.h"
#include "nn/nn.h"
#include "ref/ref_ops.h"
#include "sampler_init.h"
#include "sampler_step.h"
#include "support/device.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <string.h>

static err why; /* each test is a process of its own */

typedef struct sample_case {
    int n, h, w, c;
} sample_case;
static const sample_case sample_cases[] = {
#define SAMPLER(n, h, w, c) {n, h, w, c},
#include "cases.def"
};

/* t, c_skip, c_out, clip, a, b, e, s, w, p, q, v, slot, guidance: every term on and off; a slot is written before it is
 * read */
static const sampler_row rows[] = {
    {999, 1.1f, -0.4f, 1, 0.8f, 0.3f, 0, 0.5f, {0}, 0.4f, 0.7f, 0, 1, 1, 0.6f, 0.8f, 0},
    {500, 0.9f, 0.7f, 0.5f, 0.1f, 0.6f, -0.3f, 0, {0, 0.4f}, 0.9f, 0, 0, 3, 2, 0.7f, 0.7f, 0},
    {20, 0, 1, 0, 0.3f, 0.2f, 0, 0.7f, {0, 0.1f, 0, -0.2f}, 0, 1, 0.5f, 0, 1.5f, 0.9f, 0.4f, 0},
    {0, 1, -1, 2, 0, 1, 0.1f, 0.1f, {0.5f, 0, 0, 0.2f}, 0, 0, 0, -1, 1, 1, 0, 0}};
static const float NOISE = 2.5f, SIGNAL = 0.8f;
enum { ROWS = sizeof rows / sizeof *rows, MAX_IMAGES = 3 };
static const uint64_t SEED = 0xabcdef0123456789u;
static const int64_t ids[MAX_IMAGES] = {7, 0, 4000000000};

enum { LEARNED = 1, GUIDED = 2, MASKED = 4, LIMITED = 8, RESCALED = 16 };
static const double QUANTILE = 0.8, PHI = 0.7;

typedef struct rig {
    int features, n, d, c;
    backend *be;
    plan *first, *p; /* initial noise; one step */
    tensor *x, *h[SAMPLER_SLOTS], *x0, *model, *rows, *state, *ids, *all_ids, *t, *image, *mask;
} rig;

static tensor *images(rig *r, const sample_case *c, const char *name)
{
    return plan_input(r->p, DTYPE_F32, name, c->n, c->h, c->w, c->c);
}

static void build_step(rig *r, const sample_case *c)
{
    const bool guided = r->features & GUIDED;
    const int n = guided ? 2 * c->n : c->n;
    OK(plan_create(r->be, &r->p, &why));
    r->x = plan_input(r->p, DTYPE_F32, "x", n, c->h, c->w, c->c);
    r->model = plan_input(r->p, DTYPE_F32, "model", n, c->h, c->w, r->features & LEARNED ? 2 * c->c : c->c);
    r->x0 = images(r, c, "x0"), r->image = images(r, c, "image");
    r->mask = plan_input(r->p, DTYPE_U8, "mask", 1, c->h, c->w, 1);
    for (int j = 0; j < SAMPLER_SLOTS; j++) r->h[j] = images(r, c, "h");
    r->rows = plan_input(r->p, DTYPE_U8, "rows", sizeof rows, 1, 1, 1);
    r->state = plan_input(r->p, DTYPE_U8, "state", sizeof(sampler_state), 1, 1, 1);
    r->ids = plan_input(r->p, DTYPE_I64, "ids", n, 1, 1, 1);
    r->t = plan_input(r->p, DTYPE_F32, "t", n, 1, 1, 1);
    nn_sampler_next(r->p, r->rows, r->state, r->t);
    nn_sampler_args a = {.x = r->x,
                         .model = r->model,
                         .rows = r->rows,
                         .state = r->state,
                         .ids = r->ids,
                         .x0 = r->x0,
                         .guided = guided,
                         .quantile = r->features & LIMITED ? QUANTILE : 0,
                         .rescale = r->features & RESCALED ? PHI : 0};
    if (r->features & MASKED) a.image = r->image, a.mask = r->mask;
    for (int j = 0; j < SAMPLER_SLOTS; j++) a.h[j] = r->h[j];
    nn_sampler_step(r->p, &a);
    OK(plan_finish(r->p, &why));
    OK(plan_allocate(r->p, &why));
}

static void build(rig *r, const sample_case *c)
{
    r->be = test_backend(2);
    r->n = c->n, r->d = c->h * c->w * c->c, r->c = c->c;
    build_step(r, c);
    OK(plan_create(r->be, &r->first, &why));
    nn_sampler_init(
        r->first,
        &(nn_sampler_init_args){
            .x = r->x, .state = r->state, .ids = r->ids, .image = r->image, .noise = NOISE, .signal = SIGNAL});
    OK(plan_finish(r->first, &why));
    OK(plan_allocate(r->first, &why));
    int64_t twice[2 * MAX_IMAGES];
    for (int b = 0; b < 2 * c->n; b++) twice[b] = ids[b % c->n];
    OK(plan_write(r->p, r->ids, twice, &why));
    OK(plan_write(r->p, r->state, &(sampler_state){.seed = SEED, .row = -1}, &why));
}

static void expect_close(const rig *r, const tensor *got, const double *want, const char *what)
{
    float *v = test_copy(r->be, got);
    for (int64_t i = 0; i < (int64_t)r->n * r->d; i++)
        cr_assert(fabs((double)v[i] - want[i]) <= 3e-6 * (1 + fabs(want[i])), "features %d, %s at %lld: %.9g, not %.9g",
                  r->features, what, (long long)i, (double)v[i], want[i]);
    mem_free(v);
}

static double *doubles(int64_t n)
{
    double *v;
    OK(mem_array(&v, (size_t)n, sizeof *v, "test", &why));
    return v;
}

/* Values for a tensor, in the device's and in the reference's layout: parts of c channels of each image. */
static void fill(const rig *r, tensor *t, float phase, double *part[], int parts)
{
    float *v = test_copy(r->be, t);
    for (int64_t i = 0; i < tensor_count(t); i++) v[i] = 2 * sinf((float)i + phase);
    test_upload(r->be, t, v);
    for (int64_t i = 0; i < tensor_count(t); i++) {
        const int64_t pixel = i / t->c, channel = i % t->c;
        part[channel / r->c % parts][pixel * r->c + channel % r->c] = (double)v[i];
    }
    mem_free(v);
}

typedef struct exact_values {
    ref_sample a;
    double *F, *V, *image, *guided, *rescale, *limit;
    uint8_t *mask;
} exact_values;

/* The statistics of each image that the row needs. */
static void measure(const rig *r, exact_values *x, const sampler_row *row)
{
    const int d = r->d;
    for (int b = 0; b < r->n; b++) {
        const double *with = x->a.model + (int64_t)b * d,
                     *without = x->a.without ? x->a.without + (int64_t)b * d : with;
        for (int i = 0; i < d; i++) x->guided[i] = without[i] + (double)row->guidance * (with[i] - without[i]);
        if (x->a.rescale) x->rescale[b] = ref_rescale(with, x->guided, d, PHI);
        const double factor = x->a.rescale && row->guidance != 1 ? x->rescale[b] : 1;
        for (int i = 0; i < d; i++)
            x->guided[i] =
                (double)row->c_skip * x->a.x[(int64_t)b * d + i] + (double)row->c_out * factor * x->guided[i];
        if (x->a.limit) x->limit[b] = fmin(fmax(ref_quantile(x->guided, d, QUANTILE), 1), (double)row->clip);
    }
}

static exact_values new_exact(const rig *r)
{
    const int64_t count = (int64_t)r->n * r->d;
    exact_values x = {.F = doubles(2 * count),
                      .V = doubles(2 * count),
                      .image = doubles(count),
                      .guided = doubles(r->d),
                      .rescale = doubles(r->n),
                      .limit = doubles(r->n)};
    x.a = (ref_sample){.x = doubles(count),
                       .x0 = doubles(count),
                       .model = x.F,
                       .ids = ids,
                       .seed = SEED,
                       .n = r->n,
                       .d = r->d,
                       .c = r->c};
    for (int j = 0; j < SAMPLER_SLOTS; j++) x.a.h[j] = doubles(count);
    OK(mem_array(&x.mask, (size_t)(r->d / r->c), 1, "test", &why));
    for (int i = 0; i < r->d / r->c; i++) x.mask[i] = i % 3 != 0;
    if (r->features & GUIDED) x.a.without = x.F + count;
    if (r->features & LEARNED) x.a.variance = x.V;
    if (r->features & MASKED) x.a.image = x.image, x.a.mask = x.mask;
    if (r->features & RESCALED) x.a.rescale = x.rescale;
    if (r->features & LIMITED) x.a.limit = x.limit;
    return x;
}

static void free_exact(exact_values *x)
{
    double *all[] = {x->F, x->V, x->image, x->guided, x->rescale, x->limit, x->a.x, x->a.x0};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) mem_free(all[i]);
    for (int j = 0; j < SAMPLER_SLOTS; j++) mem_free(x->a.h[j]);
    mem_free(x->mask);
}

static void start(const rig *r, exact_values *x)
{
    const int64_t count = (int64_t)r->n * r->d;
    fill(r, r->image, 5, &x->image, 1);
    OK(plan_write(r->p, r->mask, x->mask, &why));
    ref_sampler_init(r->n, r->d, SEED, ids, x->a.x);
    for (int64_t i = 0; i < count; i++) x->a.x[i] = (double)NOISE * x->a.x[i] + (double)SIGNAL * x->image[i];
    OK(plan_run(r->first, &why));
    expect_close(r, r->x, x->a.x, "the first x");
    float *nothing = test_copy(r->be, r->x0);
    for (int64_t i = 0; i < count; i++) nothing[i] = NAN;
    for (int j = 0; j < SAMPLER_SLOTS; j++) test_upload(r->be, r->h[j], nothing);
    mem_free(nothing);
}

/* V is not there unless it is learned; a dynamic threshold needs a maximum of 1 or more. */
static sampler_row row_for(const rig *r, int row)
{
    sampler_row now = rows[row];
    if (!(r->features & LEARNED)) now.v = 0;
    if (r->features & LIMITED) now.clip = 1.5f;
    return now;
}

static void run_row(rig *r, exact_values *x, int row)
{
    double *parts[] = {x->F, x->V};
    const sampler_row now = row_for(r, row);
    sampler_state state;
    fill(r, r->model, 100 * (float)row, parts, 2);
    measure(r, x, &now);
    x->a.row = row;
    OK(plan_run(r->p, &why));
    ref_sampler_step(&x->a, &now);
    OK(plan_read(r->p, r->state, &state, &why));
    cr_expect_eq(state.row, row);
    float *t = test_copy(r->be, r->t);
    for (int64_t b = 0; b < r->t->n; b++) cr_expect_eq(t[b], now.t);
    mem_free(t);
    expect_close(r, r->x, x->a.x, "x");
    expect_close(r, r->x0, x->a.x0, "x0");
    if (now.slot >= 0) expect_close(r, r->h[now.slot], x->a.h[now.slot], "a slot");
}

static void check_features(const sample_case *c, int features)
{
    rig r = {.features = features};
    build(&r, c);
    sampler_row now[ROWS];
    for (int i = 0; i < ROWS; i++) now[i] = row_for(&r, i);
    OK(plan_write(r.p, r.rows, now, &why));
    exact_values x = new_exact(&r);
    start(&r, &x);
    for (int row = 0; row < ROWS; row++) run_row(&r, &x, row);
    free_exact(&x);
    plan_destroy(r.first);
    plan_destroy(r.p);
    backend_destroy(r.be);
}

ParameterizedTestParameters(sample_ops, steps_match_double)
{
    return cr_make_param_array(sample_case, (void *)(uintptr_t)sample_cases,
                               sizeof sample_cases / sizeof *sample_cases);
}
ParameterizedTest(const sample_case *c, sample_ops, steps_match_double)
{
    static const int features[] = {
        0, LEARNED, GUIDED, MASKED | LIMITED, GUIDED | RESCALED, LEARNED | GUIDED | MASKED | LIMITED | RESCALED};
    for (size_t i = 0; i < sizeof features / sizeof *features; i++)
        if (c->h * c->w * c->c > 1 || !(features[i] & RESCALED)) check_features(c, features[i]);
}
