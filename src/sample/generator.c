#include "sample/generator.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "diffusion/sampler.h"
#include "nn/nn.h"
#include "sampler_step.h"
#include "to_u8.h"
#include "sample/memory_fit.h"

#include <string.h>

struct generator {
    model *m; /* borrowed */
    generator_spec spec;
    schedule *schedule;
    sampler_table *table;
    plan *first, *p, *last; /* initial noise; one sampling step; conversion of images to bytes */
    tensor *x, *t, *ids, *rows, *state, *bytes;
    network_outputs net;
    generator_tick *tick;
    void *tick_context;
    int64_t *all_ids; /* [batch] */
    float *host;      /* [batch, h, w, c]; NULL if the host may access the backend's memory */
};

static ddpm_status finish(const generator *g, plan *p, err *e)
{
    return g->spec.sketch ? plan_sketch(p, e) : plan_finish(p, e);
}

static ddpm_status build(generator *g, err *e)
{
    const generator_spec *s = &g->spec;
    const int c = g->m->net.unet.in_channels;
    TRY(plan_create(g->m->be, &g->p, e));
    plan *p = g->p;
    g->x = plan_input(p, DTYPE_F32, "x", s->batch, s->h, s->w, c);
    g->t = plan_input(p, DTYPE_F32, "t", s->batch, 1, 1, 1);
    g->ids = plan_input(p, DTYPE_I64, "ids", s->batch, 1, 1, 1);
    g->rows = plan_input(p, DTYPE_U8, "rows", 1, 1, 1, (int64_t)sizeof(sampler_row) * g->table->n);
    g->state = plan_input(p, DTYPE_U8, "state", 1, 1, 1, sizeof(sampler_state));
    nn_sampler_next(p, g->rows, g->state, g->t);
    g->net = network_build(&g->m->net, p, &(network_inputs){.x = g->x, .t = g->t});
    if (g->net.y) plan_keep(p, g->net.y); /* check_finite() reads it after each group of steps */
    nn_sampler_step(
        p, &(nn_sampler_args){.x = g->x, .model = g->net.y, .rows = g->rows, .state = g->state, .ids = g->ids});
    return finish(g, p, e);
}

/* Runs once per batch, where the plan of a sampling step runs once per row. */
static ddpm_status build_first(generator *g, err *e)
{
    TRY(plan_create(g->m->be, &g->first, e));
    nn_sampler_init(
        g->first, &(nn_sampler_init_args){.x = g->x, .state = g->state, .ids = g->ids, .noise = (float)g->table->init});
    return finish(g, g->first, e);
}

static ddpm_status build_last(generator *g, err *e)
{
    TRY(plan_create(g->m->be, &g->last, e));
    g->bytes = plan_input(g->last, DTYPE_U8, "bytes", g->x->n, g->x->h, g->x->w, g->x->c);
    nn_to_u8(g->last, g->x, g->bytes);
    return finish(g, g->last, e);
}

static ddpm_status take_host_memory(generator *g, err *e)
{
    TRY(mem_array(&g->all_ids, (size_t)g->spec.batch, sizeof *g->all_ids, "generator", e));
    if (g->m->be->fn->host_memory) return DDPM_OK;
    return mem_array(&g->host, (size_t)tensor_count(g->x), sizeof *g->host, "generator", e);
}

static ddpm_status check_sketch(model *m, generator_spec spec, err *e);

ddpm_status generator_create(model *m, const generator_spec *spec, generator **out, err *e)
{
    generator *g = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    if (!spec->sketch) TRY(check_sketch(m, *spec, e));
    TRY_GOTO(mem_array(&g, 1, sizeof *g, "generator", e));
    g->m = m;
    g->spec = *spec;
    TRY_GOTO(schedule_create(&spec->scheduler, &g->schedule, e));
    const sampler_spec sampler = sampler_spec_of(&spec->scheduler, spec->steps);
    TRY_GOTO(sampler_create(g->schedule, &sampler, &g->table, e));
    TRY_GOTO(build(g, e));
    TRY_GOTO(build_first(g, e));
    TRY_GOTO(build_last(g, e));
    if (!spec->sketch) TRY_GOTO(take_host_memory(g, e));
    *out = g;
    g = NULL;
done:
    generator_destroy(g);
    return st;
}

void generator_destroy(generator *g)
{
    if (!g) return;
    plan_destroy(g->first);
    plan_destroy(g->last);
    plan_destroy(g->p);
    sampler_destroy(g->table);
    schedule_destroy(g->schedule);
    mem_free(g->all_ids);
    mem_free(g->host);
    mem_free(g);
}

int generator_steps(const generator *g) { return g->table->n; }
size_t generator_bytes(const generator *g)
{
    return g->p->bytes[ARENA_ACT] + g->p->bytes[ARENA_IO] + g->last->bytes[ARENA_IO];
}
double generator_flops(const generator *g) { return plan_flops(g->p, 0, g->p->n_step) / g->spec.batch; }
void generator_dump(const generator *g, FILE *to) { plan_dump(g->p, to); }
const plan *generator_plan(const generator *g) { return g->p; }
const plan *generator_first_plan(const generator *g) { return g->first; }

void generator_watch(generator *g, generator_tick *tick, void *context)
{
    g->tick = tick;
    g->tick_context = context;
}

size_t generator_bytes_left(const generator *g)
{
    const params *store = g->m->store;
    const size_t weights = store->arena[g->spec.weights] ? 0 : store->count * sizeof(float);
    return generator_bytes(g) + params_copy_bytes_left(store, g->spec.weights) + weights;
}

typedef struct sampling {
    model *m;
    generator_spec spec;
    memory_fit_workspaces work;
} sampling;

static ddpm_status sketch(model *m, generator_spec spec, size_t *bytes, err *e)
{
    generator *g = NULL;
    spec.sketch = true;
    TRY(generator_create(m, &spec, &g, e));
    *bytes = generator_bytes_left(g);
    generator_destroy(g);
    return DDPM_OK;
}

static size_t bytes_with(void *context, int batch)
{
    sampling *s = context;
    size_t bytes;
    err ignored = {0};
    s->spec.batch = batch;
    if (sketch(s->m, s->spec, &bytes, &ignored) != DDPM_OK) return 0;
    return bytes + memory_fit_workspace_bytes(s->work, batch);
}

static ddpm_status refuse(sampling s, size_t need, size_t there, err *e)
{
    char needed[BYTES_CAP], free_now[BYTES_CAP];
    const int batch = s.spec.batch;
    (void)bytes_text(needed, need);
    (void)bytes_text(free_now, there);
    const int fits = memory_fit_batch(
        &(memory_fit_question){.batch = batch, .need = need, .there = there, .needs = bytes_with, .context = &s});
    if (fits > 0)
        return err_set(e, DDPM_ENOMEM, "sample.batch=%d: sampling needs %s, but %s are free: sample.batch=%d fits",
                       batch, needed, free_now, fits);
    return err_set(e, DDPM_ENOMEM, "sample.batch: sampling needs %s, but %s are free: not even a batch of 1 fits",
                   needed, free_now);
}

/* Check the memory by a sketch, before any step is prepared. */
static ddpm_status check_sketch(model *m, generator_spec spec, err *e)
{
    const size_t there = m->be->fn->memory_free(m->be);
    size_t need;
    if (there == 0) return DDPM_OK;
    TRY(sketch(m, spec, &need, e));
    if (need <= there) return DDPM_OK;
    const memory_fit_workspaces work = memory_fit_guess(m, need, spec.batch);
    return refuse((sampling){m, spec, work}, need + memory_fit_workspace_bytes(work, spec.batch), there, e);
}

static ddpm_status check_memory(generator *g, err *e)
{
    const size_t there = g->m->be->fn->memory_free(g->m->be), need = generator_bytes_left(g);
    size_t least;
    if (there == 0 || need <= there) return DDPM_OK;
    TRY(sketch(g->m, g->spec, &least, e));
    return refuse((sampling){g->m, g->spec, {.fixed = need > least ? need - least : 0}}, need, there, e);
}

ddpm_status generator_allocate(generator *g, err *e)
{
    TRY(check_memory(g, e));
    TRY(plan_allocate(g->p, e));
    TRY(plan_allocate(g->first, e));
    TRY(plan_allocate(g->last, e));
    TRY(params_bind(g->m->store, g->p, g->spec.weights, e));
    TRY(network_fill(&g->m->net, g->p, &g->net, e));
    return plan_write(g->p, g->rows, g->table->rows, e);
}

/* Set x_T and the state before the first row.  Batch entries from n on repeat the last image: the plan's
 * batch is fixed, and images do not depend on one another. */
static ddpm_status start(generator *g, const int64_t *ids, int n, err *e)
{
    const sampler_state state = {.seed = g->spec.seed, .row = -1};
    for (int b = 0; b < g->spec.batch; b++) g->all_ids[b] = ids[b < n ? b : n - 1];
    TRY(plan_write(g->p, g->ids, g->all_ids, e));
    TRY(plan_write(g->p, g->state, &state, e));
    return plan_run(g->first, e);
}

/* Steps per launch.  Without a tick function a GPU gets all steps at once. */
static int group_of(const generator *g)
{
    enum { WATCHED = 20 };
    if (g->m->be->fn->host_memory) return 1;
    return g->tick ? WATCHED : g->table->n;
}

ddpm_status generator_begin(generator *g, const int64_t *ids, int n, err *e)
{
    if (n < 1 || n > g->spec.batch)
        return err_set(e, DDPM_EINVAL, "a batch of %d images; the generator was created for 1 to %d", n, g->spec.batch);
    TRY(params_refresh(g->m->store, g->spec.weights, e));
    return start(g, ids, n, e);
}

/* Tests the exponent bits as integers, which vectorizes: negligible beside a network evaluation. */
static bool is_finite(const void *values, dtype type, int64_t count)
{
    const char *at = values;
    unsigned bad = 0;
    if (type == DTYPE_BF16) {
        for (int64_t i = 0; i < count; i++) {
            uint16_t bits;
            memcpy(&bits, at + i * (int64_t)sizeof bits, sizeof bits);
            bad |= (bits & 0x7f80) == 0x7f80;
        }
        return !bad;
    }
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, at + i * (int64_t)sizeof bits, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

/* *image becomes the index of the first of n images of t with an infinity or NaN; n: there is none. */
static ddpm_status find_not_finite(generator *g, const tensor *t, int n, int *image, err *e)
{
    const int64_t d = tensor_count(t) / t->n;
    const size_t row = (size_t)d * dtype_size(t->dtype);
    const char *values = t->data;
    if (!g->m->be->fn->host_memory) {
        TRY(g->m->be->fn->download(g->m->be, g->host, t->data, (size_t)n * row, e));
        values = (const char *)g->host;
    }
    for (*image = 0; *image < n && is_finite(values + (size_t)*image * row, t->dtype, d);) ++*image;
    return DDPM_OK;
}

/* NaN would become a black image, infinity a clipped one: report an error instead. */
static ddpm_status check_finite(generator *g, const int64_t *ids, int n, int done, err *e)
{
    static const char advice[] = "the weights are damaged or have diverged; sample from an earlier checkpoint";
    int image;
    TRY(find_not_finite(g, g->net.y, n, &image, e));
    if (image < n)
        return err_set(e, DDPM_EDIVERGED, "picture %lld: the network's output at step %d of %d is not finite: %s",
                       (long long)ids[image], done, g->table->n, advice);
    TRY(find_not_finite(g, g->x, n, &image, e));
    if (image == n) return DDPM_OK;
    return err_set(e, DDPM_EDIVERGED, "picture %lld is not finite after step %d of %d: %s", (long long)ids[image], done,
                   g->table->n, advice);
}

static ddpm_status run_loop(generator *g, const int64_t *ids, int n, err *e)
{
    const int group = group_of(g);
    TRY(generator_begin(g, ids, n, e));
    for (int i = 0; i < g->table->n;) {
        const int times = g->table->n - i < group ? g->table->n - i : group;
        TRY(plan_run_times(g->p, times, e));
        i += times;
        TRY(check_finite(g, ids, n, i, e));
        if (g->tick && g->tick(g->tick_context, i, g->table->n))
            return err_set(e, DDPM_ESAVED, "sampling was stopped at step %d of %d", i, g->table->n);
    }
    return DDPM_OK;
}

static size_t values_of(const generator *g, int n) { return (size_t)n * (size_t)(tensor_hw(g->x) * g->x->c); }

ddpm_status generator_run(generator *g, const int64_t *ids, int n, float *x, err *e)
{
    TRY(run_loop(g, ids, n, e));
    return g->m->be->fn->download(g->m->be, x, g->x->data, values_of(g, n) * sizeof *x, e);
}

ddpm_status generator_run_bytes(generator *g, const int64_t *ids, int n, uint8_t *bytes, err *e)
{
    TRY(run_loop(g, ids, n, e));
    TRY(plan_run(g->last, e));
    return g->m->be->fn->download(g->m->be, bytes, g->bytes->data, values_of(g, n), e);
}

void generator_to_bytes(const float *x, int64_t count, uint8_t *bytes)
{
    for (int64_t i = 0; i < count; i++) bytes[i] = to_u8(x[i]);
}
