#include "kernels/stored.h"
#include "kernels/update_fixture.h"
#include "time_embed.h"

struct embedding {
    std::vector<float> t, freq, y;
    time_embed_args args;
    embedding(std::vector<float> t_, int dim, float shift, bool cos_first)
        : t(t_), freq(dim / 2), y(t.size() * dim, not_a_number)
    {
        time_embed_frequencies(freq.data(), dim / 2, shift);
        args = {t.data(), freq.data(), y.data(), (int)t.size(), dim, cos_first};
    }
};

/* Vaswani et al. 2017, section 3.5, in double; the angle t freq is a float, so a large t costs digits. */
Test(time_embed, follows_the_formula_in_every_thread_order)
{
    in_every_order([] {
        for (int dim : {4, 6, 7, 128, 254, 255})
            for (bool cos_first : {false, true}) {
                embedding e({0.0f, 1.0f, 0.37f, 999.0f, 8191.5f, -3.0f}, dim, cos_first ? 0.0f : 1.0f, cos_first);
                assert_clean(k_time_embed(nullptr, &e.args));
                const int half = dim / 2;
                for (size_t b = 0; b < e.t.size(); b++) {
                    if (dim % 2) cr_assert_eq(e.y[b * dim + dim - 1], 0.0f);
                    for (int i = 0; i < half; i++) {
                        const double freq = pow(10000.0, -(double)i / (half - (cos_first ? 0 : 1)));
                        /* an exponent of up to ln 10^4 was rounded, then freq, then the angle */
                        const double angle = e.t[b] * freq, allowed = 1.5e-7 + 2e-7 * fabs(angle) * (1 - log(freq));
                        const float *y = &e.y[b * dim];
                        cr_assert_float_eq(y[cos_first ? half + i : i], sin(angle), allowed, "t %g i %d", e.t[b], i);
                        cr_assert_float_eq(y[cos_first ? i : half + i], cos(angle), allowed, "t %g i %d", e.t[b], i);
                    }
                }
            }
    });
}

Test(time_embed, agrees_with_diffusers)
{
    for (int flip : {0, 1}) {
        embedding e({fixture_time, fixture_time + 4}, 8, flip ? 0.0f : 1.0f, flip);
        assert_clean(k_time_embed(nullptr, &e.args));
        for (int i = 0; i < 32; i++) cr_assert_float_eq(e.y[i], fixture_embedding[4 * flip + i / 8][i % 8], 1.2e-7);
    }
}

Test(time_embed, backends_agree_to_the_bit)
{
    embedding gpu({0.0f, 12.5f, 777.0f}, 62, 1.0f, true), cpu({0.0f, 12.5f, 777.0f}, 62, 1.0f, true);
    assert_clean(k_time_embed(nullptr, &gpu.args));
    for (int b = 0; b < 3; b++)
        for (int i = 0; i < 31; i++) time_embed_pair(&cpu.args, b, i);
    assert_same_bits(cpu.y, gpu.y);
}

Test(time_embed, bf16_is_the_same_rounded_once)
{
    for (int dim : {4, 7, 62}) {
        embedding plain({0.0f, 12.5f, 777.0f}, dim, 1.0f, true), rounded({0.0f, 12.5f, 777.0f}, dim, 1.0f, true);
        stored y(plain.y.size(), STORE_BF16);
        rounded.args.y = y.data();
        rounded.args.y_type = STORE_BF16;
        assert_clean(k_time_embed(nullptr, &plain.args));
        assert_clean(k_time_embed(nullptr, &rounded.args));
        for (size_t i = 0; i < y.n; i++) cr_assert_eq(y[i], nearest_bf16(plain.y[i]), "element %zu", i);
    }
}

/* Labels that are embedded as timesteps. */
Test(time_embed, whole_numbers_are_the_same_as_floats)
{
    embedding real({0.0f, 7.0f, 999.0f, -1.0f}, 62, 0.0f, true), whole({5.0f, 5.0f, 5.0f, 5.0f}, 62, 0.0f, true);
    const std::vector<int64_t> numbers = {0, 7, 999, -1};
    whole.args.t = nullptr, whole.args.whole = numbers.data();
    assert_clean(k_time_embed(nullptr, &real.args));
    assert_clean(k_time_embed(nullptr, &whole.args));
    assert_same_bits(real.y, whole.y);
}
