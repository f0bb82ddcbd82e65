#include "draw.h"
#include "kernels/emulated.h"
#include "kernels/training_batch.h"

enum { IMAGES = 300, SET = 1000, CLASSES = 7, NULL_LABEL = CLASSES };

struct drawn {
    std::vector<float> rows, t;
    std::vector<int64_t> label;
    draw_args args;
    explicit drawn(const training_batch &b)
        : rows((size_t)b.s.n * TABLE_COLUMNS, not_a_number), t(b.s.n, not_a_number), label(b.s.n, -77)
    {
        args = {b.table.data(), &b.state, nullptr,           nullptr, rows.data(), t.data(),
                label.data(),   b.s.n,    training_batch::T, 0,       NULL_LABEL};
    }
};

/* Image b is sample state.sample + b, and its timestep is drawn as the header of noise.h says. */
Test(draw, every_image_gets_the_row_of_its_timestep)
{
    in_every_order([] {
        for (int n : {1, 127, 128, 129, (int)IMAGES}) {
            const training_batch batch({n, 1, 1, 1}, false);
            drawn gpu(batch), cpu(batch);
            assert_clean(k_draw(nullptr, &gpu.args));
            for (int b = 0; b < n; b++) draw_one(&cpu.args, b);
            assert_same_bits(batch.rows, gpu.rows);
            assert_same_bits(batch.rows, cpu.rows);
            for (int b = 0; b < n; b++) {
                cr_assert_eq(gpu.t[b], (float)batch.column(b, TABLE_TIME));
                cr_assert_eq(cpu.t[b], gpu.t[b]);
                cr_assert_eq(gpu.label[b], -77, "a label where there are none");
            }
        }
    });
}

Test(draw, labels_come_by_index_and_some_are_dropped)
{
    const training_batch batch({IMAGES, 1, 1, 1}, false);
    std::vector<int64_t> labels(SET), index(IMAGES);
    for (int i = 0; i < SET; i++) labels[i] = i * 31 % CLASSES;
    for (int b = 0; b < IMAGES; b++) index[b] = b * 7919 % SET;
    for (float rate : {0.0f, 0.25f, 1.0f}) {
        drawn gpu(batch), cpu(batch);
        for (drawn *d : {&gpu, &cpu}) {
            d->args.labels = labels.data(), d->args.index = index.data();
            d->args.label_dropout = rate;
        }
        assert_clean(k_draw(nullptr, &gpu.args));
        for (int b = 0; b < IMAGES; b++) draw_one(&cpu.args, b);
        int dropped = 0;
        for (int b = 0; b < IMAGES; b++) {
            const bool drop = batch.bits(NOISE_TRAIN_T, b, 0).v[2] / 4294967296.0 < rate;
            cr_assert_eq(gpu.label[b], drop ? (int64_t)NULL_LABEL : labels[index[b]]);
            cr_assert_eq(cpu.label[b], gpu.label[b]);
            dropped += drop;
        }
        cr_assert_float_eq((double)dropped / IMAGES, rate, 5 * sqrt(rate * (1 - rate) / IMAGES));
        assert_same_bits(batch.rows, gpu.rows); /* timesteps do not depend on the labels */
    }
}

Test(draw, timesteps_are_uniform)
{
    enum { N = 20000, T = training_batch::T };
    const training_batch batch({N, 1, 1, 1}, false);
    drawn d(batch);
    int count[T] = {0};
    for (int b = 0; b < N; b++) {
        draw_one(&d.args, b);
        for (int t = 0; t < T; t++) count[t] += d.t[b] == batch.table[t * TABLE_COLUMNS + TABLE_TIME];
    }
    for (int n : count) cr_assert_float_eq((double)n / N, 1.0 / T, 5 * sqrt(0.09 / N));
}

/* Probabilities 0, 1/8, 0, 1/2, 3/8, 0 ... */
Test(draw, timesteps_follow_a_distribution)
{
    enum { N = 20000, T = training_batch::T };
    const double want[T] = {0, 0.125, 0, 0.5, 0.375};
    const training_batch batch({N, 1, 1, 1}, false);
    drawn gpu(batch);
    int64_t cumulative[T + 1] = {0};
    int count[T] = {0};
    for (int t = 0; t < T; t++) cumulative[t + 1] = cumulative[t] + (int64_t)(want[t] * 4294967296.0);
    gpu.args.cumulative = cumulative;
    assert_clean(k_draw(nullptr, &gpu.args));
    for (int b = 0; b < N; b++)
        for (int t = 0; t < T; t++) count[t] += gpu.t[b] == batch.table[t * TABLE_COLUMNS + TABLE_TIME];
    for (int t = 0; t < T; t++)
        cr_assert_float_eq((double)count[t] / N, want[t], 5 * sqrt(want[t] * (1 - want[t]) / N), "timestep %d: %d", t,
                           count[t]);
    /* the borders of a range belong to it */
    cr_assert_eq(draw_timestep(&gpu.args, 0), 1);
    cr_assert_eq(draw_timestep(&gpu.args, 0x1FFFFFFFu), 1);
    cr_assert_eq(draw_timestep(&gpu.args, 0x20000000u), 3);
    cr_assert_eq(draw_timestep(&gpu.args, 0xFFFFFFFFu), 4);
}

/* With base 0 and T = 1000 the sequence begins 0, 618, 236, 854, 472, 90; every 50 samples each tenth has 5, +- 2. */
Test(draw, stratified_timesteps_cover_every_window)
{
    const training_batch batch({IMAGES, 1, 1, 1}, false);
    drawn gpu(batch), parts(batch);
    gpu.args.stratified = parts.args.stratified = 1;
    assert_clean(k_draw(nullptr, &gpu.args));
    for (int first = 0; first + 50 <= IMAGES; first += 13) {
        int count[training_batch::T] = {0};
        for (int b = first; b < first + 50; b++)
            for (int t = 0; t < training_batch::T; t++)
                count[t] += gpu.t[b] == batch.table[t * TABLE_COLUMNS + TABLE_TIME];
        for (int n : count) cr_assert(n >= 3 && n <= 7, "%d of 50", n);
    }
    const uint32_t base = noise_bits(batch.state.seed, NOISE_STRATIFY, 0, 0, 0).v[0];
    train_state first = batch.state;
    first.sample = 0;
    gpu.args.state = &first, gpu.args.T = 1000;
    const int want[] = {0, 618, 236, 854, 472, 90};
    for (int b = 0; b < 6; b++) cr_assert_eq(draw_timestep(&gpu.args, draw_position(&gpu.args, b, 77) - base), want[b]);
    /* the ordinal decides, not the place in the batch */
    train_state later = batch.state;
    later.sample += 5;
    parts.args.state = &later;
    for (int b = 0; b < 20; b++) {
        draw_one(&parts.args, b);
        cr_assert_eq(parts.t[b], gpu.t[b + 5]);
    }
}
