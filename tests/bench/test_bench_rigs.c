/* The rigs of `ddpm bench` on a small network: they do what a run does, and every part of a step is timed once. */
#include "bench/bench.h"
#include "base/mem.h"
#include "support/device.h"
#include "support/ok.h"
#include "support/small_run.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static err why;

static ddpm_config *small_config(void)
{
    static const char *const arguments[] = {"data.kind=cifar10",
                                            "data.path=/nowhere",
                                            "data.resolution=8",
                                            "data.channels=3",
                                            "train.batch=2",
                                            "model.block_out_channels=8,16",
                                            "model.down_block_types=DownBlock2D,AttnDownBlock2D",
                                            "model.up_block_types=AttnUpBlock2D,UpBlock2D",
                                            "model.layers_per_block=1",
                                            "model.norm_num_groups=4",
                                            "model.dropout=0.1",
                                            "train.lr_warmup_steps=1",
                                            "ema.decay=0.9",
                                            "threads=2",
                                            "sample.batch=2",
                                            "sample.num_inference_steps=5",
                                            "data.flip=true",
                                            NULL};
    static ddpm_config c;
    config_defaults(&c);
    config_put_all(&c, arguments);
    OK(config_check(&c, &why));
    return &c;
}

static void expect_same(const model *a, const model *b, arena_kind arena)
{
    float *x = test_params(a->store, arena), *y = test_params(b->store, arena);
    cr_expect_eq(memcmp(x, y, a->store->count * sizeof *x), 0, "arena %d differs", (int)arena);
    for (size_t i = 0; i < a->store->count; i++) cr_assert(isfinite(x[i]), "arena %d", (int)arena);
    mem_free(x);
    mem_free(y);
}

static const machine_peak peak = {.tflop_per_s = 1, .gb_per_s = 10};

static void expect_costs(const step_costs *t, const plan *p, int rounds)
{
    int phases[PHASES] = {0};
    double sum = 0;
    cr_assert_eq(t->n, p->n_step);
    cr_expect_eq(t->pass.n, rounds);
    for (int i = 0; i < t->n; i++) {
        const step_cost *o = &t->list[i];
        cr_expect_eq(o->s, p->steps[i]);
        cr_expect_eq(o->time.n, rounds);
        cr_expect(isfinite(o->time.median) && o->time.median >= 0, "%s: %g", o->s->path, o->time.median);
        cr_expect(o->bytes > 0 && o->floor_ms == roofline_ms(o->flops, o->bytes, &peak), "%s", o->s->path);
        phases[o->phase]++;
        sum += o->time.min;
    }
    cr_expect_leq(sum, t->pass.max * (1 + 1e-9), "a pass is the sum of its steps");
    cr_expect_eq(phases[PHASE_UPDATE], p->n_step > p->n_forward ? 3 : 0);
    cr_expect_eq(phases[PHASE_FORWARD], p->n_forward);
}

/* Timing the parts of a step leaves exactly what as many steps leave, however often a part ran. */
Test(bench, parts_of_a_training_step_add_up_to_the_step, .timeout = 900)
{
    enum { WARM = 2, ROUNDS = 3 };
    const ddpm_config *c = small_config();
    backend *be = test_backend(2);
    bench_train parts, whole;
    step_costs t;
    OK(bench_train_create(c, be, &parts, &why));
    OK(bench_train_create(c, be, &whole, &why));
    cr_expect(parts.state.step == 1 && parts.first_step_s > 0 && isfinite(parts.state.loss));
    const bench_ops_spec spec = {.be = be,
                                 .p = trainer_plan(parts.t),
                                 .begin = bench_train_begin,
                                 .context = &parts,
                                 .limits = {WARM, ROUNDS, 1000},
                                 .peak = peak};
    OK(bench_ops(&spec, &t, &why));
    for (int i = 0; i < WARM + ROUNDS; i++) {
        OK(bench_train_begin(&whole, &why));
        OK(plan_run((plan *)trainer_plan(whole.t), &why));
    }
    expect_costs(&t, spec.p, ROUNDS);
    static const arena_kind arenas[] = {ARENA_PARAM, ARENA_GRAD, ARENA_M, ARENA_V, ARENA_EMA};
    for (size_t k = 0; k < sizeof arenas / sizeof *arenas; k++) expect_same(parts.m, whole.m, arenas[k]);
    train_state a, b;
    OK(trainer_state(parts.t, &a, &why));
    OK(trainer_state(whole.t, &b, &why));
    cr_expect(a.step == 1 + WARM + ROUNDS && !memcmp(&a, &b, sizeof a));
    bench_train_destroy(&parts);
    bench_train_destroy(&whole);
    bench_ops_free(&t);
    backend_destroy(be);
}

Test(bench, parts_of_an_evaluation_are_timed, .timeout = 900)
{
    const ddpm_config *c = small_config();
    backend *be = test_backend(2);
    bench_sample rig;
    step_costs t;
    OK(bench_sample_create(c, NULL, be, &rig, &why));
    const bench_ops_spec spec = {.be = be,
                                 .p = generator_plan(rig.g),
                                 .begin = bench_sample_begin,
                                 .context = &rig,
                                 .limits = {1, 8, 1000}, /* more passes than the loop has steps */
                                 .peak = peak};
    OK(bench_ops(&spec, &t, &why));
    expect_costs(&t, spec.p, 8);
    bench_sample_destroy(&rig);
    bench_ops_free(&t);
    backend_destroy(be);
}

/* The training steps of the rig are the run's: the same images in the same order into the same trainer. */
Test(bench, steps_are_those_of_a_run, .timeout = 900)
{
    enum { STEPS = 3 };
    ddpm_config *c = small_config();
    backend *be = test_backend(2);
    bench_train rig, other;
    double ms[STEPS], wall_ms;
    c->train.gradient_accumulation_steps = 2;
    OK(bench_train_create(c, be, &rig, &why));
    OK(bench_train_iterations(&rig, STEPS, ms, &wall_ms, &why));
    for (int i = 0; i < STEPS; i++) cr_expect(isfinite(ms[i]) && ms[i] >= 0);
    cr_expect(wall_ms > 0 && rig.state.step == STEPS + 1 && rig.state.sample == (STEPS + 1) * 4);
    OK(bench_train_create(c, be, &other, &why));
    const dataset *d = other.data;
    cr_expect(dataset_h(d) == 8 && dataset_c(d) == 3 && !strcmp(dataset_kind_name(d), "digits"), "synthetic");
    const size_t size = (size_t)8 * 8 * 3;
    uint8_t images[2 * 8 * 8 * 3];
    for (uint64_t ordinal = 4; ordinal < 4 * (STEPS + 1); ordinal += 2) { /* by hand, through the host */
        int64_t index[2];
        for (uint64_t k = 0; k < 2; k++) {
            index[k] = loader_image_index((uint64_t)c->seed, dataset_count(d), ordinal + k, c->data.shuffle);
            OK(dataset_read(d, index[k], images + k * size, &why));
        }
        OK(trainer_is_resident(other.t) ? trainer_accumulate_stored(other.t, index, &why)
                                        : trainer_accumulate(other.t, images, NULL, &why));
        if (ordinal % 4) OK(trainer_update(other.t, &why));
    }
    expect_same(rig.m, other.m, ARENA_PARAM);
    bench_train_destroy(&rig);
    bench_train_destroy(&other);
    backend_destroy(be);
}

Test(bench, evaluations_are_timed_within_loops_and_over_them, .timeout = 900)
{
    const ddpm_config *c = small_config();
    backend *be = test_backend(2);
    bench_sample rig;
    timing t;
    double ms[2], wall_ms;
    OK(bench_sample_create(c, NULL, be, &rig, &why));
    OK(bench_sample_evaluations(&rig, &(bench_limits){3, 9, 1000}, &t, &why)); /* loops have 5 */
    cr_expect(t.n == 9 && isfinite(t.median) && t.min >= 0);
    OK(bench_sample_evaluations(&rig, &(bench_limits){1, 100, 0}, &t, &why));
    cr_expect(t.n >= BENCH_LEAST && t.n < 100, "the time was over: %d", t.n);
    OK(bench_sample_iterations(&rig, 2, ms, &wall_ms, &why));
    cr_expect(ms[0] > 0 && wall_ms >= ms[0]);
    for (int i = 0; i < 2 * 8 * 8 * 3; i++) cr_assert(isfinite(rig.x[i]));
    bench_sample_destroy(&rig);
    backend_destroy(be);
}

/* The pictures of a benchmark have the labels of sample.labels, by id, as those of `ddpm sample`. */
Test(bench, pictures_have_the_labels_of_the_options, .timeout = 900)
{
    ddpm_config *c = small_config();
    backend *be = test_backend(2);
    bench_sample rig;
    double ms[1], wall_ms;
    float first[2][2 * 8 * 8 * 3];
    config_put(c, "model.num_class_embeds=12");
    for (int k = 0; k < 2; k++) {
        config_put(c, k ? "sample.labels=11,4" : "sample.labels=11,3");
        OK(bench_sample_create(c, NULL, be, &rig, &why));
        OK(bench_sample_iterations(&rig, 1, ms, &wall_ms, &why));
        memcpy(first[k], rig.x, sizeof first[k]);
        const generator_batch odd = bench_sample_batch(&rig, (const int64_t[]){1, 3}, 2);
        cr_expect(odd.labels[0] == 3 + k && odd.labels[1] == 3 + k);
        bench_sample_destroy(&rig);
    }
    const size_t picture = sizeof first[0] / 2;
    cr_expect_eq(memcmp(first[0], first[1], picture), 0, "id 0 has label 11 in both");
    cr_expect_neq(memcmp(first[0] + 8 * 8 * 3, first[1] + 8 * 8 * 3, picture), 0, "id 1 has label 3 and 4");
    config_put(c, "sample.labels=12");
    cr_expect_eq(bench_sample_create(c, NULL, be, &rig, &why), DDPM_EINVAL);
    cr_expect_not_null(strstr(why.text, "label 12 is not in [0, 12)"), "%s", why.text);
    backend_destroy(be);
}

Test(bench, shapes_that_cannot_be_known_are_refused)
{
    static const struct {
        config_data_kind kind;
        int resolution, channels, h, c; /* h = 0: refused */
    } cases[] = {{DATA_KIND_CIFAR10, 0, 0, 32, 3}, {DATA_KIND_DIGITS, 0, 0, 28, 1},  {DATA_KIND_IDX, 32, 0, 32, 1},
                 {DATA_KIND_IDX, 0, 3, 28, 3},     {DATA_KIND_FOLDER, 0, 0, 0, 0},   {DATA_KIND_FOLDER, 64, 0, 0, 0},
                 {DATA_KIND_AUTO, 0, 3, 0, 0},     {DATA_KIND_FOLDER, 64, 3, 64, 3}, {DATA_KIND_DIGITS, 16, 1, 16, 1},
                 {DATA_KIND_CIFAR10, 64, 1, 64, 1}};
    static ddpm_config c;
    backend *be = test_backend(1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        image_shape shape = {0};
        config_defaults(&c);
        c.data.kind = cases[i].kind;
        c.data.resolution = cases[i].resolution, c.data.channels = cases[i].channels;
        const ddpm_status st = bench_shape(&c, be, &shape, &why);
        cr_expect_eq(st, cases[i].h ? DDPM_OK : DDPM_EINVAL, "%zu", i);
        cr_expect(st != DDPM_OK || (shape.h == cases[i].h && shape.w == cases[i].h && shape.c == cases[i].c), "%zu", i);
    }
    backend_destroy(be);
}

#ifndef TEST_DEVICE /* sizes grow by the clock, and an emulated device's stands nearly still */
Test(bench, peaks_are_measured)
{
    backend *be = test_backend(2);
    machine_peak found;
    OK(bench_peak(be, 0.001, &found, &why));
    cr_expect(found.tflop_per_s > 0 && found.gb_per_s > 0 && found.product_side == 128);
    cr_expect_float_eq(found.copy_bytes, 2.0 * (1 << 20), 1);
    OK(bench_peak(be, 0.2, &found, &why));
    cr_expect(isfinite(found.tflop_per_s) && found.product_side >= 128 && found.copy_bytes >= 2.0 * (1 << 20));
    backend_destroy(be);
}
#endif
