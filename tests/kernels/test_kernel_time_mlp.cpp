#include "kernels/stored.h"
#include "time_mlp.h"

/* Weights of about 1 / sqrt(k) on any alignment, times and frequencies as a network's. */
struct mlp {
    int n, dim, width;
    storage type;
    std::vector<float> t, freq, b1, b2, pre1, pre2;
    stored w1, w2, h0, h1, y;
    time_mlp_args args;
    mlp(int n_, int dim_, int width_, storage type_, bool cos_first = false, size_t skip = 0)
        : n(n_), dim(dim_), width(width_), type(type_), t(n), freq(dim / 2), b1(wobbles(width, 0.5f)),
          b2(wobbles(width + 3, 0.5f)), pre1((size_t)n * width, not_a_number), pre2(pre1),
          w1(wobbles((size_t)width * dim, 2 / std::sqrt((float)dim)), type, skip),
          w2(wobbles((size_t)width * width, 2 / std::sqrt((float)width)), type, skip), h0((size_t)n * dim, type, skip),
          h1((size_t)n * width, type, skip), y((size_t)n * width, type, skip)
    {
        for (int b = 0; b < n; b++) t[b] = (float)(b * 389 % 1000);
        time_embed_frequencies(freq.data(), dim / 2, cos_first ? 0.0f : 0.5f);
        args = {t.data(),  freq.data(), w1.data(),   w2.data(), b1.data(), b2.data() + 3, y.data(),  h0.data(),
                h1.data(), pre1.data(), pre2.data(), n,         dim,       width,         cos_first, type};
    }
    double embedding(int b, int column) const
    {
        const int half = dim / 2;
        if (column >= 2 * half) return 0;
        const double angle = (double)(t[b] * freq[column % half]);
        return (column < half) == (args.flip_sin_to_cos != 0) ? cos(angle) : sin(angle);
    }
};

static double silu_of(double z) { return z / (1 + exp(-z)); }

/* One layer on what the kernel says it was given: `pre` to the precision of float sums, `out` half a unit off. */
static void check_layer(const mlp &m, const stored &x, const stored &w, const float *bias,
                        const std::vector<float> &pre, const stored &out)
{
    const int k = (int)(x.n / m.n);
    for (int b = 0; b < m.n; b++)
        for (int o = 0; o < m.width; o++) {
            double z = bias[o], size = std::fabs(z);
            for (int i = 0; i < k; i++) {
                const double term = (double)x[(size_t)b * k + i] * w[(size_t)o * k + i];
                z += term, size += std::fabs(term);
            }
            const size_t at = (size_t)b * m.width + o;
            cr_assert_float_eq(pre[at], z, 4e-7 * size, "row %d column %d of %d: %g for %g", b, o, k, pre[at], z);
            const double y = silu_of(pre[at]);
            cr_assert_float_eq(out[at], y, slack(y, m.type, 3e-7 * (std::fabs(y) + 1e-3)), "row %d column %d", b, o);
        }
}

static void check(mlp &m)
{
    assert_clean(k_time_mlp(nullptr, &m.args));
    for (int b = 0; b < m.n; b++)
        for (int c = 0; c < m.dim; c++) {
            const double want = m.embedding(b, c);
            cr_assert_float_eq(m.h0[(size_t)b * m.dim + c], want, slack(want, m.type, 1.5e-7), "%d, %d", b, c);
        }
    check_layer(m, m.h0, m.w1, m.args.b1, m.pre1, m.h1);
    check_layer(m, m.h1, m.w2, m.args.b2, m.pre2, m.y);
    m.h0.assert_untouched_before();
    m.h1.assert_untouched_before();
    m.y.assert_untouched_before();
}

/* Runs of 128 weights, with and without a rest of quads and of single weights; one part and several, the last one
 * ragged; full and ragged blocks of 1, 2, 4 and 8 rows. */
Test(time_mlp, follows_the_formula_in_every_thread_order, .timeout = 900)
{
    static const int shapes[][3] = {{1, 4, 16},   {2, 7, 13},    {3, 33, 70},  {5, 32, 128},
                                    {9, 130, 65}, {1, 128, 512}, {8, 64, 257}, {17, 2, 1}};
    in_every_order([] {
        for (const auto &s : shapes)
            for (storage type : storages) {
                mlp m(s[0], s[1], s[2], type, s[0] % 2, s[1] % 3);
                check(m);
            }
    });
}

/* Four rows of 2560 values fill the shared memory. */
Test(time_mlp, the_widest_networks, .timeout = 900)
{
    mlp m(3, 512, 2048, STORE_BF16);
    cr_assert_eq(time_mlp_cut_of(3, 512, 2048).rows, 4);
    cr_assert_eq(time_mlp_cut_of(8, 512, 2048).rows, 4);
    check(m);
}

Test(time_mlp, every_cut_covers_the_columns_and_fits)
{
    for (int n : {1, 2, 3, 4, 5, 7, 8, 9, 300})
        for (int dim : {2, 4, 33, 128, 256, 512, 1500})
            for (int width : {1, 63, 64, 65, 128, 512, 513, 1024, 2048, 10000}) {
                const time_mlp_cut cut = time_mlp_cut_of(n, dim, width);
                cr_assert(cut.parts >= 1 && cut.parts <= TIME_MLP_PARTS && cut.share * cut.parts >= width &&
                          cut.share * (cut.parts - 1) < width);
                cr_assert(cut.shared <= TIME_MLP_SHARED && cut.rows < 2 * n);
            }
    cr_assert_eq(time_mlp_cut_of(300, 128, 512).rows, 8);
    cr_assert_gt(time_mlp_cut_of(1, 2000, 11000).shared, TIME_MLP_SHARED);
}

/* A picture does not depend on the others of its batch; nor y on what else is wanted. */
Test(time_mlp, a_row_is_the_same_in_every_batch)
{
    for (storage type : storages) {
        mlp all(11, 36, 150, type);
        assert_clean(k_time_mlp(nullptr, &all.args));
        for (int n : {1, 2, 4, 7}) {
            mlp few(n, 36, 150, type);
            few.t.assign(all.t.end() - n, all.t.end());
            few.args.t = few.t.data();
            few.args.h0 = few.args.h1 = nullptr;
            few.args.pre1 = few.args.pre2 = nullptr;
            assert_clean(k_time_mlp(nullptr, &few.args));
            const std::vector<float> y = all.y.floats();
            assert_same_bits(few.y.floats(), std::vector<float>(y.end() - n * 150, y.end()));
            for (size_t i = 0; i < few.h0.n; i++) cr_assert(std::isnan(few.h0[i]));
            for (size_t i = 0; i < few.h1.n; i++) cr_assert(std::isnan(few.h1[i]) && std::isnan(few.pre1[i]));
        }
    }
}

/* The embedding is time_embed's to the bit. */
Test(time_mlp, embeds_as_the_op_of_its_own)
{
    for (storage type : storages)
        for (int dim : {6, 33})
            for (bool cos_first : {false, true}) {
                mlp m(5, dim, 20, type, cos_first);
                stored y(m.h0.n, type);
                const time_embed_args alone = {m.t.data(), m.freq.data(), y.data(), 5, dim, cos_first, type};
                assert_clean(k_time_mlp(nullptr, &m.args));
                assert_clean(k_time_embed(nullptr, &alone));
                assert_same_bits(m.h0.floats(), y.floats());
            }
}

/* Sines of NaN are NaN. */
Test(time_mlp, a_nan_stays_in_its_row)
{
    mlp m(9, 30, 40, STORE_F32);
    m.t[8] = not_a_number;
    assert_clean(k_time_mlp(nullptr, &m.args));
    for (size_t i = 0; i < m.y.n; i++) cr_assert_eq(std::isnan(m.y[i]), i / 40 == 8);
}
