#include "dropout.h"
#include "kernels/stored.h"

static dropout_args over(const std::vector<float> &x, std::vector<float> &y, const train_state *s, int n, float p)
{
    return {x.data(), y.data(), s, n, (int)x.size() / n, p, 2, 0};
}

static train_state at_sample(uint64_t sample)
{
    train_state s = {};
    s.seed = 31;
    s.sample = sample;
    return s;
}

Test(dropout, drops_a_share_p_and_scales_the_rest_in_every_thread_order)
{
    in_every_order([] {
        const train_state s = at_sample(0xFFFFFFFEu);
        for (int d : {1, 3, 27, 1026})
            for (float p : {0.0f, 0.1f, 0.75f}) {
                const std::vector<float> x = wobbles(4 * d, 1.0f);
                std::vector<float> y(x.size(), not_a_number), cpu = y;
                const dropout_args a = over(x, y, &s, 4, p), b = over(x, cpu, &s, 4, p);
                assert_clean(k_dropout(nullptr, &a));
                for (int i = 0; i < 4; i++)
                    for (int o = 0; o < (d + 7) / 8; o++) dropout_octet(&b, i, o);
                assert_same_bits(cpu, y);
                int dropped = 0;
                for (size_t i = 0; i < x.size(); i++) {
                    dropped += y[i] == 0.0f;
                    if (y[i] != 0.0f) cr_assert_float_eq(y[i], x[i] / (1.0 - p), 1e-6);
                }
                if (d == 1026) cr_assert_float_eq(dropped / 4104.0, p, 5 * sqrt(p * (1 - p) / 4104) + 1e-3);
                if (p == 0.0f) assert_same_bits(x, y);
            }
    });
}

/* The definition of the mask: of draw i / 8 the low half, of its second four the high half, of word i % 4 at least
 * p 2^16. */
Test(dropout, the_mask_is_that_of_the_sample_and_the_layer)
{
    const train_state s = at_sample(0xFFFFFFFFu);
    const std::vector<float> x(2 * 27, 1.0f);
    std::vector<float> y(x.size());
    const dropout_args a = over(x, y, &s, 2, 0.5f);
    assert_clean(k_dropout(nullptr, &a));
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 27; i++) {
            const philox4 r = noise_bits(31, NOISE_DROPOUT + 2, b ? 0 : 0xFFFFFFFFu, (uint32_t)b, i / 8);
            cr_assert_eq(y[b * 27 + i], (i % 8 < 4 ? r.v[i % 4] & 0xFFFF : r.v[i % 4] >> 16) >= 0x8000u ? 2.0f : 0.0f);
        }
}

Test(dropout, accumulates_works_in_place_and_forgets_what_it_drops)
{
    const train_state s = at_sample(5);
    const std::vector<float> x = wobbles(54, 1.0f);
    std::vector<float> y(54), sum(54, 10.0f), in_place = x, bad(54, not_a_number), kept(54);
    dropout_args plain = over(x, y, &s, 2, 0.5f), add = over(x, sum, &s, 2, 0.5f);
    const dropout_args same = over(in_place, in_place, &s, 2, 0.5f), nan = over(bad, kept, &s, 2, 0.5f);
    add.accumulate = 1;
    for (const dropout_args *a : {(const dropout_args *)&plain, (const dropout_args *)&add, &same, &nan})
        assert_clean(k_dropout(nullptr, a));
    assert_same_bits(y, in_place);
    for (int i = 0; i < 54; i++) {
        cr_assert_eq(sum[i], 10.0f + y[i]);
        cr_assert_eq(std::isnan(kept[i]), y[i] != 0.0f);
    }
}

Test(dropout, bf16_loses_the_same_elements)
{
    const train_state s = at_sample(5);
    for (int d : {1, 3, 27, 1028})
        for (int accumulate : {0, 1}) {
            stored x(wobbles(2 * d, 1.0f), STORE_BF16, 1), y(wobbles(2 * d, 3.0f), STORE_BF16, d == 3);
            const std::vector<float> from = x.floats();
            std::vector<float> to = y.floats();
            dropout_args plain = over(from, to, &s, 2, 0.5f), low = plain;
            plain.accumulate = low.accumulate = accumulate;
            low.x = x.data(), low.y = y.data(), low.type = STORE_BF16;
            assert_clean(k_dropout(nullptr, &plain));
            assert_clean(k_dropout(nullptr, &low));
            for (size_t i = 0; i < y.n; i++) cr_assert_eq(y[i], nearest_bf16(to[i]), "element %zu of %d", i, 2 * d);
            y.assert_untouched_before();
        }
}
