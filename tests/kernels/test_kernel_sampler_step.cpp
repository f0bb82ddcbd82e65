#include "kernels/stored.h"
#include "sampler_init.h"
#include "sampler_next.h"
#include "sampler_step.h"

enum { N = 3, ROWS = 3, ROW = 2 };
static const int sizes[] = {1, 3, 4, 27, 1026};

struct chain {
    std::vector<float> x, model, x0_prev, x_saved;
    std::vector<sampler_row> rows;
    std::vector<int64_t> ids{7, 0xFFFFFFFF, 100};
    sampler_state state = {99, ROW, 0};
    sampler_step_args args;
    chain(int d, sampler_row row)
        : x(wobbles((size_t)N * d, 2.0f)), model(wobbles((size_t)N * d + 5, 3.0f)),
          x0_prev(wobbles((size_t)N * d + 1, 1.0f)), x_saved(wobbles((size_t)N * d + 2, 1.0f)), rows(ROWS)
    {
        model.erase(model.begin(), model.begin() + 5);
        x0_prev.erase(x0_prev.begin());
        x_saved.erase(x_saved.begin(), x_saved.begin() + 2);
        rows[ROW] = row;
        args = {x.data(), model.data(), x0_prev.data(), x_saved.data(), rows.data(), &state, ids.data(), N, d};
    }
    double xi(int b, int i) const
    {
        return noise_normal4(99, NOISE_SAMPLE_STEP, (uint32_t)ids[b], ROW, (uint32_t)i / 4).v[i % 4];
    }
};

/* t, c_skip, c_out, a, b, c, d, s, clip, flags */
static const sampler_row everything = {5.0f, 1.3f, -0.8f, 0.6f, 0.5f, -0.3f, 0.2f, 0.4f, 1.5f, SAMPLER_SAVE_X};

Test(sampler_step, follows_the_formula_in_every_thread_order)
{
    in_every_order([] {
        for (int d : sizes) {
            const chain before(d, everything);
            chain got(d, everything);
            assert_clean(k_sampler_step(nullptr, &got.args));
            for (int b = 0; b < N; b++)
                for (int i = 0; i < d; i++) {
                    const int e = b * d + i;
                    const double x0 = fmax(-1.5, fmin(1.5, 1.3 * before.x[e] - 0.8 * before.model[e]));
                    const double x = 0.6 * before.x[e] + 0.5 * x0 - 0.3 * before.x0_prev[e] + 0.2 * before.x_saved[e] +
                                     0.4 * before.xi(b, i);
                    cr_assert_float_eq(got.x[e], x, 2e-6, "image %d element %d", b, i);
                    cr_assert_float_eq(got.x0_prev[e], x0, 1e-6);
                    cr_assert_eq(got.x_saved[e], before.x[e]);
                }
        }
    });
}

Test(sampler_step, backends_agree_to_the_bit)
{
    sampler_row quiet = everything;
    quiet.s = 0.0f;
    for (int d : sizes)
        for (const sampler_row &row : {everything, quiet}) {
            chain gpu(d, row), cpu(d, row);
            assert_clean(k_sampler_step(nullptr, &gpu.args));
            for (int b = 0; b < N; b++) sampler_step_one(&cpu.args, b);
            assert_same_bits(cpu.x, gpu.x);
            assert_same_bits(cpu.x0_prev, gpu.x0_prev);
            assert_same_bits(cpu.x_saved, gpu.x_saved);
        }
}

/* A first step: the buffers of earlier ones hold garbage, or are not there at all. */
Test(sampler_step, terms_of_coefficient_0_are_not_read)
{
    sampler_row first = everything;
    first.c = first.d = first.s = 0.0f;
    chain with(27, first), without(27, first);
    for (float &v : with.x0_prev) v = not_a_number;
    for (float &v : with.x_saved) v = not_a_number;
    without.args.x0_prev = without.args.x_saved = nullptr;
    assert_clean(k_sampler_step(nullptr, &with.args));
    assert_clean(k_sampler_step(nullptr, &without.args));
    for (float v : with.x) cr_assert(std::isfinite(v));
    assert_same_bits(with.x, without.x);
}

Test(sampler_step, x_is_saved_only_when_the_row_says_so)
{
    sampler_row keep = everything;
    keep.flags = 0;
    const chain before(27, keep);
    chain got(27, keep);
    assert_clean(k_sampler_step(nullptr, &got.args));
    assert_same_bits(before.x_saved, got.x_saved);
}

Test(sampler_step, clip_0_does_not_clip_and_nan_is_not_hidden)
{
    sampler_row open = {0.0f, 0.0f, 1.0f, 0.0f, 1.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0}, closed = open;
    closed.clip = 1.0f;
    chain wide(27, open), narrow(27, closed);
    wide.model[3] = narrow.model[3] = 50.0f;
    narrow.model[4] = not_a_number;
    assert_clean(k_sampler_step(nullptr, &wide.args));
    assert_clean(k_sampler_step(nullptr, &narrow.args));
    cr_assert_eq(wide.x[3], 50.0f);
    cr_assert_eq(narrow.x[3], 1.0f);
    cr_assert(std::isnan(narrow.x[4]));
}

/* Image 100 alone and as the third of a batch. */
Test(sampler_step, the_noise_belongs_to_the_image)
{
    chain batch(27, everything), alone(27, everything);
    sampler_step_args last = alone.args;
    last.n = 1;
    last.ids += 2;
    last.x += 2 * 27, last.model = &alone.model[2 * 27], last.x0_prev += 2 * 27, last.x_saved += 2 * 27;
    assert_clean(k_sampler_step(nullptr, &batch.args));
    assert_clean(k_sampler_step(nullptr, &last));
    cr_assert_arr_eq(&batch.x[2 * 27], &alone.x[2 * 27], 27 * sizeof(float));
}

Test(sampler_next, tells_each_row_in_turn)
{
    in_every_order([] {
        std::vector<sampler_row> rows(3);
        for (int i = 0; i < 3; i++) rows[i].t = 10.5f - (float)i;
        for (int n : {1, 255, 600}) {
            sampler_state gpu = {1, -1, 0}, cpu = {1, -1, 0};
            std::vector<float> t(n, not_a_number), u(n, not_a_number);
            const sampler_next_args to_gpu = {rows.data(), &gpu, t.data(), n},
                                    to_cpu = {rows.data(), &cpu, u.data(), n};
            for (int row = 0; row < 3; row++) {
                assert_clean(k_sampler_next(nullptr, &to_gpu));
                sampler_next_one(&to_cpu);
                cr_assert(gpu.row == row && cpu.row == row);
                for (float v : t) cr_assert_eq(v, 10.5f - (float)row);
                assert_same_bits(t, u);
            }
        }
    });
}

Test(sampler_init, is_scaled_noise_of_seed_and_image)
{
    in_every_order([] {
        for (int d : sizes) {
            const std::vector<int64_t> ids = {7, 0xFFFFFFFF, 100};
            const sampler_state state = {99, -1, 0};
            std::vector<float> gpu((size_t)N * d, not_a_number), cpu = gpu;
            const sampler_init_args to_gpu = {gpu.data(), &state, ids.data(), N, d, 80.0f};
            const sampler_init_args to_cpu = {cpu.data(), &state, ids.data(), N, d, 80.0f};
            assert_clean(k_sampler_init(nullptr, &to_gpu));
            for (int b = 0; b < N; b++) sampler_init_one(&to_cpu, b);
            assert_same_bits(cpu, gpu);
            for (int b = 0; b < N; b++)
                for (int i = 0; i < d; i++)
                    cr_assert_eq(gpu[b * d + i],
                                 80.0f * noise_normal4(99, NOISE_SAMPLE_INIT, (uint32_t)ids[b], 0, i / 4).v[i % 4]);
        }
    });
}

Test(sampler_step, the_model_may_answer_in_bf16)
{
    in_every_order([] {
        for (int d : sizes) {
            chain plain(d, everything), rounded(d, everything);
            stored model(plain.model, STORE_BF16, d == 27);
            plain.model = model.floats();
            plain.args.model = plain.model.data();
            rounded.args.model = model.data();
            rounded.args.model_type = STORE_BF16;
            assert_clean(k_sampler_step(nullptr, &plain.args));
            assert_clean(k_sampler_step(nullptr, &rounded.args));
            assert_same_bits(plain.x, rounded.x);
            assert_same_bits(plain.x0_prev, rounded.x0_prev);
            assert_same_bits(plain.x_saved, rounded.x_saved);
        }
    });
}
