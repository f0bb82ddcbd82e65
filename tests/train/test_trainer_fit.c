/* What does not fit is refused before a kernel is made or timed, with the batch that does.  The backend is the cpu's,
 * with as much memory as a test says. */
#include "base/mem.h"
#include "train/trainer_fit.h"
#include "sample/generator.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static backend_table table;
static const backend_table *cpu;
static size_t there; /* bytes of memory */
static int prepared;

static size_t memory_free(const backend *be) { return (void)be, there; }

static ddpm_status prepare(backend *be, step *s, size_t *scratch, err *e)
{
    prepared++;
    return cpu->prepare(be, s, scratch, e);
}

static backend *be;
static model *m;
static err why;

static void make(int width, int layers)
{
    network net = {.kind = NETWORK_UNET, .unet = unet_config_default()};
    const scheduler_config scheduler = scheduler_config_default();
    net.unet.sample_size_h = net.unet.sample_size_w = 16;
    net.unet.in_channels = net.unet.out_channels = 3;
    net.unet.n_block = 2;
    net.unet.block[0] = net.unet.block[1] = (unet_block){width, UNET_DOWN, UNET_UP};
    net.unet.layers_per_block = layers;
    net.unet.norm_num_groups = 4;
    cr_assert_eq(backend_create(&(backend_spec){.device = "cpu", .threads = 1, .conv = CONV_ALGO_WINOGRAD}, &be, &why),
                 DDPM_OK, "%s", why.text);
    cpu = be->fn;
    table = *cpu;
    table.memory_free = memory_free;
    table.prepare = prepare;
    be->fn = &table;
    cr_assert_eq(model_create(be, &net, &scheduler, &m, &why), DDPM_OK, "%s", why.text);
    there = (size_t)1 << 40;
    prepared = 0;
}

static void drop(void)
{
    model_destroy(m);
    backend_destroy(be);
}

static trainer_spec training(int batch)
{
    trainer_spec s = {.batch = batch, .h = 16, .w = 16, .micro_batches = 1, .recompute = RECOMPUTE_ON};
    s.update.update.ema[0] = (ema_rule){.kind = EMA_CONSTANT, .decay = 0.9};
    return s;
}

static trainer_memory needs(trainer_spec spec)
{
    trainer *t = NULL;
    cr_assert_eq(trainer_create(m, &spec, &t, &why), DDPM_OK, "%s", why.text);
    const trainer_memory need = trainer_needs(t);
    trainer_destroy(t);
    return need;
}

static int suggested(const char *option)
{
    const char *at = strstr(why.text, option);
    cr_assert_not_null(at, "%s", why.text);
    return atoi(at + strlen(option));
}

Test(fit, a_training_is_refused_before_anything_is_prepared_and_the_suggested_batch_fits_faults_C3)
{
    trainer *t = NULL;
    make(32, 1);
    for (size_t mib = 16; mib <= 64; mib *= 2) {
        there = mib << 20;
        prepared = 0;
        trainer_spec spec = training(2000);
        cr_assert_eq(trainer_create(m, &spec, &t, &why), DDPM_ENOMEM);
        cr_expect_eq(prepared, 0);
        spec.batch = suggested(": train.batch=");
        cr_assert(spec.batch > 1 && spec.batch < 2000, "%s", why.text);
        cr_assert_eq(trainer_create(m, &spec, &t, &why), DDPM_OK, "%s", why.text);
        cr_expect_eq(trainer_fit_check(m, &spec, trainer_needs(t), &why), DDPM_OK, "%zu MiB: %s", mib, why.text);
        trainer_destroy(t);
    }
    drop();
}

Test(fit, a_network_of_many_weights_is_refused_before_anything_is_prepared_faults_C3)
{
    trainer *t = NULL;
    generator *g = NULL;
    make(4096, 8);
    there = (size_t)4 << 30;
    const trainer_spec spec = training(4);
    cr_assert_eq(trainer_create(m, &spec, &t, &why), DDPM_ENOMEM);
    cr_expect_not_null(strstr(why.text, "not even a batch of 1 fits"), "%s", why.text);
    const generator_spec sampling = {.batch = 4, .h = 16, .w = 16, .weights = ARENA_PARAM, .scheduler = m->scheduler};
    cr_assert_eq(generator_create(m, &sampling, &g, &why), DDPM_ENOMEM);
    cr_expect_not_null(strstr(why.text, "not even a batch of 1 fits"), "%s", why.text);
    cr_expect_eq(prepared, 0);
    drop();
}

/* What only the workspaces make too much is found when they are known; another batch is not prepared to see. */
Test(fit, the_search_for_a_batch_prepares_nothing_faults_C3)
{
    trainer *t = NULL;
    make(32, 1);
    trainer_spec spec = training(64);
    cr_assert_eq(trainer_create(m, &spec, &t, &why), DDPM_OK, "%s", why.text);
    const trainer_memory need = trainer_needs(t);
    trainer_destroy(t);
    there = trainer_fit_total(need) - 1;
    prepared = 0;
    cr_assert_eq(trainer_fit_check(m, &spec, need, &why), DDPM_ENOMEM);
    cr_expect_eq(prepared, 0);
    spec.batch = suggested(": train.batch=");
    cr_assert(spec.batch >= 48 && spec.batch < 64, "%s", why.text);
    cr_expect_eq(trainer_fit_check(m, &spec, needs(spec), &why), DDPM_OK, "%s", why.text);
    drop();
}

Test(fit, a_sampling_is_refused_before_anything_is_prepared_and_the_suggested_batch_fits_faults_C3)
{
    generator *g = NULL;
    make(32, 1);
    cr_assert_eq(params_allocate(m->store, false, false, &why), DDPM_OK, "%s", why.text);
    generator_spec spec = {
        .batch = 4000, .h = 16, .w = 16, .sampler = {.steps = 2}, .weights = ARENA_PARAM, .scheduler = m->scheduler};
    there = (size_t)16 << 20;
    cr_assert_eq(generator_create(m, &spec, &g, &why), DDPM_ENOMEM);
    cr_expect_eq(prepared, 0);
    spec.batch = suggested(": sample.batch=");
    cr_assert(spec.batch > 1 && spec.batch < 4000, "%s", why.text);
    cr_assert_eq(generator_create(m, &spec, &g, &why), DDPM_OK, "%s", why.text);
    cr_expect_leq(generator_bytes_left(g), there);
    cr_expect_eq(generator_allocate(g, &why), DDPM_OK, "%s", why.text);
    generator_destroy(g);
    drop();
}

/* As ddpm_predict() plans; what fits is finished afterwards as if nobody had asked. */
Test(fit, any_plan_can_be_asked_before_it_is_prepared_faults_C3)
{
    size_t bytes[2];
    make(32, 1);
    for (int asked = 0; asked < 2; asked++) {
        plan *p = NULL;
        cr_assert_eq(plan_create(be, &p, &why), DDPM_OK, "%s", why.text);
        const network_outputs net = network_build(&m->net, p,
                                                  &(network_inputs){.x = plan_input(p, DTYPE_F32, "x", 64, 16, 16, 3),
                                                                    .t = plan_input(p, DTYPE_F32, "t", 64, 1, 1, 1)});
        plan_keep(p, net.y);
        there = 1 << 20;
        if (asked) cr_assert_eq(plan_fits(p, &why), DDPM_ENOMEM);
        cr_expect_eq(prepared, 0);
        there = (size_t)1 << 40;
        if (asked) cr_assert_eq(plan_fits(p, &why), DDPM_OK, "%s", why.text);
        cr_assert_eq(plan_finish(p, &why), DDPM_OK, "%s", why.text);
        bytes[asked] = p->bytes[ARENA_ACT];
        prepared = 0;
        plan_destroy(p);
    }
    cr_expect_eq(bytes[0], bytes[1]);
    drop();
}

Test(fit, a_sketch_says_what_is_needed_at_least_faults_C1)
{
    make(32, 1);
    trainer_spec spec = training(8);
    const trainer_memory whole = needs(spec);
    cr_expect_gt(prepared, 0);
    prepared = 0;
    spec.sketch = true;
    there = 1; /* nothing stops a sketch */
    const trainer_memory least = needs(spec);
    cr_expect_eq(prepared, 0);
    cr_expect_eq(least.weights, whole.weights);
    cr_expect_eq(least.inputs, whole.inputs);
    cr_expect(least.activations <= whole.activations && least.activations > whole.activations / 4);
    cr_expect_eq(whole.ahead, 0);
    spec.ahead = 65; /* data.prefetch=64 */
    cr_expect_eq(needs(spec).ahead, (size_t)65 * 8 * 16 * 16 * 3);
    cr_expect_eq(trainer_fit_total(needs(spec)) - trainer_fit_total(least), needs(spec).ahead);
    drop();
}

/* Bytes of VmData, which RLIMIT_DATA is held against. */
static rlim_t data_now(void)
{
    char line[200];
    unsigned long long kib = 0;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && fgets(line, sizeof line, f)) (void)sscanf(line, "VmData: %llu", &kib);
    if (f) fclose(f);
    return (rlim_t)kib << 10;
}

/* Memory that the system would grant and could not give. */
Test(fit, large_memory_is_asked_for_before_it_is_taken_faults_C1)
{
    const rlim_t gib = (rlim_t)1 << 30;
    void *memory = NULL;
    make(32, 1);
    const size_t before = cpu->memory_free(be);
    cr_expect_lt(before, (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGE_SIZE));
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_DATA, &limit), 0);
    limit.rlim_cur = data_now() + gib;
    cr_assert_eq(setrlimit(RLIMIT_DATA, &limit), 0);
    cr_expect_lt(cpu->memory_free(be), gib);
    cr_expect_eq(mem_array(&memory, 2, (size_t)1 << 30, "pixels", &why), DDPM_ENOMEM);
    cr_expect(strstr(why.text, "pixels: out of memory (2048 MiB needed, "), "%s", why.text);
    cr_expect_eq(mem_pages(&memory, (size_t)2 << 30, "arena", &why), DDPM_ENOMEM);
    cr_expect_not_null(strstr(why.text, " MiB free)"), "%s", why.text);
    cr_expect_eq(cpu->alloc(be, (size_t)2 << 30, &memory, &why), DDPM_ENOMEM);
    cr_expect_not_null(strstr(why.text, "a smaller batch"), "%s", why.text);
    drop();
}
