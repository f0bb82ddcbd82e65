#include "kernels/stored.h"
#include "kernels/training_batch.h"
#include "q_sample.h"

struct noised {
    std::vector<float> xt;
    q_sample_args args;
    explicit noised(const training_batch &b) : xt(b.s.size(), not_a_number)
    {
        args = {b.images.data(), b.rows.data(), &b.state, xt.data(), b.s.n, b.s.h, b.s.w, b.s.c, b.flip};
    }
};

/* Ho et al. 2020, eq. 4, in double. */
Test(q_sample, follows_equation_4_in_every_thread_order)
{
    in_every_order([] {
        for (const shape &s : shapes) {
            const training_batch batch(s, true);
            noised got(batch);
            assert_clean(k_q_sample(nullptr, &got.args));
            for (int b = 0; b < s.n; b++)
                for (int i = 0; i < s.d(); i++) {
                    const double xt =
                        batch.column(b, TABLE_SIGNAL) * batch.x0(b, i) + batch.column(b, TABLE_NOISE) * batch.eps(b, i);
                    cr_assert_float_eq(got.xt[(size_t)b * s.d() + i], xt, 1e-6, "image %d element %d", b, i);
                }
        }
    });
}

Test(q_sample, backends_agree_to_the_bit)
{
    for (const shape &s : shapes)
        for (bool flip : {false, true}) {
            const training_batch batch(s, flip);
            noised gpu(batch), cpu(batch);
            assert_clean(k_q_sample(nullptr, &gpu.args));
            for (int b = 0; b < s.n; b++) q_sample_one(&cpu.args, b);
            assert_same_bits(cpu.xt, gpu.xt);
        }
}

/* Images 0 to 4 at once, or 0 to 1 and then 2 to 4: the same noise. */
Test(q_sample, a_split_batch_sees_the_same_draws)
{
    const shape s = {5, 3, 3, 3};
    const training_batch batch(s, true);
    noised whole(batch), parts(batch);
    train_state later = batch.state;
    later.sample += 2;
    assert_clean(k_q_sample(nullptr, &whole.args));
    q_sample_args part = parts.args;
    part.n = 2;
    assert_clean(k_q_sample(nullptr, &part));
    part.n = 3;
    part.state = &later;
    part.images += 2 * s.d(), part.xt = parts.xt.data() + 2 * s.d(), part.rows += 2 * TABLE_COLUMNS;
    assert_clean(k_q_sample(nullptr, &part));
    assert_same_bits(whole.xt, parts.xt);
}

Test(q_sample, half_of_the_images_are_mirrored)
{
    enum { N = 20000 };
    train_state state = {};
    int flips = 0;
    state.seed = 5;
    for (int b = 0; b < N; b++) flips += draw_flip(&state, b);
    cr_assert_float_eq((double)flips / N, 0.5, 5 * sqrt(0.25 / N));
}

Test(q_sample, bytes_map_onto_minus_1_to_1)
{
    uint8_t bytes[4] = {0, 255, 127, 128};
    float x0[4];
    drawn_image m = {};
    m.pixels = bytes, m.d = 4, m.w = 4, m.c = 1;
    clean_quad(&m, 0, x0);
    cr_assert_eq(x0[0], -1.0f);
    cr_assert_eq(x0[1], 1.0f);
    cr_assert_float_eq(x0[2], -1.0 / 255, 1e-7);
    cr_assert_float_eq(x0[3], 1.0 / 255, 1e-7);
}

Test(q_sample, bf16_is_the_same_rounded_once)
{
    in_every_order([] {
        for (const shape &s : shapes) {
            const training_batch batch(s, true);
            noised plain(batch), rounded(batch);
            stored low(s.size(), STORE_BF16);
            rounded.args.xt = low.data();
            rounded.args.xt_type = STORE_BF16;
            assert_clean(k_q_sample(nullptr, &plain.args));
            assert_clean(k_q_sample(nullptr, &rounded.args));
            for (size_t i = 0; i < s.size(); i++) cr_assert_eq(low[i], nearest_bf16(plain.xt[i]));
        }
    });
}

/* The same images picked out of a data set, in another order and one of them twice. */
Test(q_sample, images_come_from_the_data_set_by_index)
{
    const training_batch set({5, 3, 5, 3}, true);
    const std::vector<int64_t> index = {4, 0, 3, 0};
    const training_batch picked = set.picked(index);
    noised whole(picked), gpu(picked), cpu(picked);
    gpu.args.images = cpu.args.images = set.images.data();
    gpu.args.index = cpu.args.index = index.data();
    assert_clean(k_q_sample(nullptr, &whole.args));
    assert_clean(k_q_sample(nullptr, &gpu.args));
    for (int b = 0; b < 4; b++) q_sample_one(&cpu.args, b);
    assert_same_bits(whole.xt, gpu.xt);
    assert_same_bits(whole.xt, cpu.xt);
}

/* eps + a z[channel] + g xi, in double. */
Test(q_sample, noise_has_an_offset_for_each_channel_and_a_perturbation)
{
    in_every_order([] {
        for (const shape &s : shapes)
            for (float offset : {0.0f, 0.25f})
                for (float perturbation : {0.0f, 0.1f}) {
                    const training_batch batch(s, true);
                    noised gpu(batch), cpu(batch);
                    for (noised *n : {&gpu, &cpu})
                        n->args.noise_offset = offset, n->args.input_perturbation = perturbation;
                    assert_clean(k_q_sample(nullptr, &gpu.args));
                    for (int b = 0; b < s.n; b++) {
                        q_sample_one(&cpu.args, b);
                        for (int i = 0; i < s.d(); i++) {
                            const double eps = batch.eps(b, i) + (double)offset * batch.offset(b, i % s.c) +
                                               (double)perturbation * batch.normal(NOISE_PERTURB, b, i);
                            const double xt =
                                batch.column(b, TABLE_SIGNAL) * batch.x0(b, i) + batch.column(b, TABLE_NOISE) * eps;
                            cr_assert_float_eq(gpu.xt[(size_t)b * s.d() + i], xt, 2e-6, "image %d element %d", b, i);
                        }
                    }
                    assert_same_bits(cpu.xt, gpu.xt);
                }
    });
}
