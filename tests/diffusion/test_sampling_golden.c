/* Whole sampling loops through plans against diffusers' own loops with the same noise. */
#include "base/file.h"
#include "base/mem.h"
#include "sampler_init.h"
#include "support/device.h"
#include "support/golden.h"
#include "support/net_rig.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <math.h>
#include <stdio.h>

enum { N = 3, SIDE = 12, COUNT = N * SIDE * SIDE, AFTER_ROW = 10 };
#define TOLERANCE test_network_bound(2e-5, 0.1)

static const struct {
    const char *name, *network;
} runs[] = {{"epsilon_small", "epsilon_ema"},
            {"epsilon_large", "epsilon_ema"},
            {"epsilon_no_clip", "epsilon_ema"},
            {"epsilon_leading_50", "epsilon_ema"},
            {"epsilon_linspace_50", "epsilon_ema"},
            {"epsilon_trailing_50", "epsilon_ema"},
            {"sample", "sample"},
            {"v_prediction", "v_prediction"},
            {"v_prediction_cosine_50", "v_prediction"},
            {"mu", "sample"},
            {"mu_clip", "sample"}};
enum { RUNS = sizeof runs / sizeof *runs };

static err why; /* each test is a process of its own */

static ddpm_status create_ddpm(const schedule *s, int steps, sampler_table **table)
{
    const sampler_spec spec = {.kind = SAMPLER_DDPM, .steps = steps};
    return sampler_create(s, &spec, table, &why);
}

static sampler_table *new_table(const char *run, int64_t steps)
{
    char dir[PATH_CAP], path[2 * PATH_CAP];
    scheduler_config c;
    schedule *s = NULL;
    sampler_table *table = NULL;
    (void)snprintf(path, sizeof path, "%s/scheduler_config.json", golden_path(dir, run));
    OK(scheduler_config_read(path, NULL, &c, NULL, &why));
    OK(schedule_create(&c, &s, &why));
    OK(create_ddpm(s, (int)steps, &table));
    cr_assert_eq(table->n, steps);
    /* diffusers leaves noise in the image where the last timestep is not 0 (trailing spacing); our rows do not */
    sampler_row *last = &table->rows[table->n - 1];
    cr_assert_eq(last->s, 0);
    if (last->t > 0 && c.variance_type == SCHEDULER_FIXED_LARGE) last->s = (float)sqrt(1 - s->abar[(int)last->t]);
    schedule_destroy(s);
    return table;
}

static void build(net_rig *r, const char *weights, const sampler_table *table)
{
    char dir[PATH_CAP], path[2 * PATH_CAP], name[200];
    net_options o = {.n = N, .h = SIDE, .w = SIDE};
    (void)snprintf(name, sizeof name, "trajectory/%s", weights);
    (void)snprintf(path, sizeof path, "%s/config.json", golden_path(dir, name));
    OK(unet_config_read(path, &o.net.unet, NULL, &why));
    net_sample(r, &o, table->n);
    (void)snprintf(path, sizeof path, "%s/diffusion_pytorch_model.safetensors", dir);
    net_allocate(r, ARENA_EMA, path);
}

static void start(net_rig *r, const safetensors *io, const sampler_table *table)
{
    int64_t *seed = golden_i64(io, "seed", NULL), *ids = golden_i64(io, "ids", NULL);
    const sampler_state state = {.seed = (uint64_t)seed[0], .row = -1};
    float x[COUNT];
    for (int b = 0; b < N; b++)
        sampler_init_one(
            &(sampler_init_args){.x = x, .state = &state, .ids = ids, .n = N, .d = SIDE * SIDE, .noise = 1}, b);
    OK(plan_write(r->p, r->x, x, &why));
    OK(plan_write(r->p, r->ids, ids, &why));
    OK(plan_write(r->p, r->state, &state, &why));
    OK(plan_write(r->p, r->rows, table->rows, &why));
    mem_free(seed);
    mem_free(ids);
}

static void check(const net_rig *r, const safetensors *io, const char *what, const char *run)
{
    char plain[80];
    float *theirs = golden_f32(io, what, NULL);
    (void)snprintf(plain, sizeof plain, "float32.%s", what);
    float *floats = golden_f32(io, plain, NULL);
    float *ours = test_copy(r->be, r->x);
    const double error = rel_l2(ours, theirs, COUNT);
    cr_log_info("%s, %s: off by %.2e; diffusers in float32 by %.2e", run, what, error, rel_l2(floats, theirs, COUNT));
    cr_expect(error <= TOLERANCE, "%s, %s: off by %.2e", run, what, error);
    mem_free(ours);
    mem_free(theirs);
    mem_free(floats);
}

ParameterizedTestParameters(sampling_golden, whole_loops_match_diffusers)
{
    static int index[RUNS];
    for (int i = 0; i < RUNS; i++) index[i] = i;
    return cr_make_param_array(int, index, RUNS);
}
ParameterizedTest(const int *index, sampling_golden, whole_loops_match_diffusers)
{
    char run[100], path[200];
    net_rig r = {0};
    (void)snprintf(run, sizeof run, "sampling/%s", runs[*index].name);
    (void)snprintf(path, sizeof path, "%s/io.safetensors", run);
    safetensors *io = golden_open(path);
    int64_t *steps = golden_i64(io, "steps", NULL);
    sampler_table *table = new_table(run, *steps);
    build(&r, runs[*index].network, table);
    start(&r, io, table);
    for (int i = 0; i < table->n; i++) {
        net_run(&r);
        if (i == AFTER_ROW) check(&r, io, "after_row_10", run);
    }
    check(&r, io, "x", run);
    mem_free(steps);
    sampler_destroy(table);
    safetensors_close(io);
    net_destroy(&r);
}
