#include "kernels/stored.h"
#include "softmax.h"

/* Rows of a warp and of a block, on and off the grid of four, up to both sides of the border between them. */
static const int64_t widths[] = {1, 2, 3, 4, 5, 31, 64, 129, 256, 1022, 1024, 1025, 1027, 1028, 2600};

struct attended {
    int64_t rows, s;
    std::vector<float> scores, dp, lse;
    attended(int64_t rows_, int64_t s_)
        : rows(rows_), s(s_), scores(wobbles(rows * s, 9.0f)), dp(wobbles(rows * s + 7, 2.0f)), lse(rows, not_a_number)
    {
        dp.erase(dp.begin(), dp.begin() + 7);
        for (int64_t i = 0; i < rows * s; i++) scores[i] += 1000.0f * (float)(i / s % 3) - 1000.0f; /* no overflow */
    }
    double top(int64_t r) const { return *std::max_element(&scores[r * s], &scores[r * s] + s); }
    double log_sum(int64_t r) const
    {
        const double most = top(r);
        double sum = 0;
        for (int64_t j = 0; j < s; j++) sum += exp(scores[r * s + j] - most);
        return most + log(sum);
    }
};

/* test(rows, s, type) for matrices of every width, of one row and of several, in every thread order. */
template <class F> static void for_matrices(F test)
{
    in_every_order([&] {
        for (int64_t s : widths)
            for (int64_t rows : {1, 9})
                for (storage type : storages)
                    if (s <= 300 || rows == 1 || type != STORE_BF16) test(rows, s, type);
    });
}

Test(softmax, follows_the_formula_in_every_thread_order)
{
    for_matrices([](int64_t rows, int64_t s, storage type) {
        attended a(rows, s);
        stored p(rows * s, type, s % 2);
        const softmax_args args = {a.scores.data(), p.data(), type, a.lse.data(), rows, s};
        assert_clean(k_softmax(nullptr, &args));
        for (int64_t r = 0; r < rows; r++) {
            const double lse = a.log_sum(r);
            cr_assert_float_eq(a.lse[r], lse, 1e-7 * (fabs(lse) + 10), "row %ld of %ld", r, s);
            for (int64_t i = r * s; i < (r + 1) * s; i++) {
                const double want = exp(a.scores[i] - lse);
                cr_assert_float_eq(p[i], want, slack(want, type, 4e-6 * want + 1e-40), "%ld of %ld", i, s);
            }
        }
        p.assert_untouched_before();
    });
}

/* ds = p (dp - sum p dp), by the Jacobian p_i (delta_ij - p_j) in double. */
Test(softmax_bwd, follows_the_formula_in_every_thread_order)
{
    for_matrices([](int64_t rows, int64_t s, storage type) {
        attended a(rows, s);
        stored p(rows * s, type, s % 2), ds(rows * s, type, s % 3), alone(rows * s, type);
        for (int64_t r = 0; r < rows; r++) a.lse[r] = (float)a.log_sum(r);
        const softmax_bwd_args args = {a.scores.data(), a.dp.data(), a.lse.data(), p.data(), ds.data(), type, rows, s},
                               without = {a.scores.data(), a.dp.data(), a.lse.data(), nullptr,
                                          alone.data(),    type,        rows,         s};
        assert_clean(k_softmax_bwd(nullptr, &args));
        assert_clean(k_softmax_bwd(nullptr, &without));
        for (int64_t r = 0; r < rows; r++) {
            const double lse = a.log_sum(r);
            double dot = 0;
            for (int64_t i = r * s; i < (r + 1) * s; i++) dot += exp(a.scores[i] - lse) * a.dp[i];
            for (int64_t i = r * s; i < (r + 1) * s; i++) {
                /* lse up to 1010 was rounded to float */
                const double q = exp(a.scores[i] - lse), want = q * (a.dp[i] - dot);
                cr_assert_float_eq(p[i], q, slack(q, type, 1e-4 * q + 1e-40));
                cr_assert_float_eq(ds[i], want, slack(want, type, 3e-4 * q + 1e-40), "%ld of %ld", i, s);
                cr_assert_eq(ds[i], alone[i]);
            }
        }
        p.assert_untouched_before();
        ds.assert_untouched_before();
    });
}

Test(softmax, float_results_may_replace_their_sources)
{
    for (int64_t s : {5, 1024, 1030}) {
        attended a(3, s), b(3, s);
        std::vector<float> p(3 * s), ds(3 * s);
        const softmax_args apart = {a.scores.data(), p.data(), STORE_F32, a.lse.data(), 3, s};
        assert_clean(k_softmax(nullptr, &apart));
        b.lse = a.lse;
        std::vector<float> scores = b.scores;
        const softmax_args over = {scores.data(), scores.data(), STORE_F32, b.lse.data(), 3, s};
        assert_clean(k_softmax(nullptr, &over));
        assert_same_bits(p, scores);
        const softmax_bwd_args x = {a.scores.data(), a.dp.data(), a.lse.data(), p.data(), ds.data(), STORE_F32, 3, s};
        const softmax_bwd_args y = {
            b.scores.data(), b.dp.data(), b.lse.data(), b.scores.data(), b.dp.data(), STORE_F32, 3, s};
        assert_clean(k_softmax_bwd(nullptr, &x));
        assert_clean(k_softmax_bwd(nullptr, &y));
        assert_same_bits(p, b.scores);
        assert_same_bits(ds, b.dp);
    }
}

/* Scores of minus infinity are left out; a NaN takes its whole row with it, and only that. */
Test(softmax, infinities_and_nan)
{
    for (int64_t s : {6, 1030}) {
        attended a(3, s);
        a.scores[1] = -HUGE_VALF;
        a.scores[s + 2] = not_a_number;
        std::vector<float> p(3 * s);
        const softmax_args args = {a.scores.data(), p.data(), STORE_F32, a.lse.data(), 3, s};
        assert_clean(k_softmax(nullptr, &args));
        cr_assert(p[1] == 0.0f && std::isfinite(a.lse[0]) && std::isnan(a.lse[1]) && std::isfinite(a.lse[2]));
        for (int64_t i = 0; i < 3 * s; i++) cr_assert_eq(std::isnan(p[i]), i / s == 1);
    }
}

Test(softmax, the_longest_row)
{
    const int64_t s = 65536;
    std::vector<float> scores(s, -3.0f), p(s), lse(1);
    const softmax_args args = {scores.data(), p.data(), STORE_F32, lse.data(), 1, s};
    assert_clean(k_softmax(nullptr, &args));
    cr_assert_float_eq(lse[0], log(65536.0) - 3, 1e-6);
    for (float v : p) cr_assert_eq(v, 0x1p-16f);
}
