#include "kernels/stored.h"
#include "sampler_step.h"
#include "train_state.h"
#include "update.h"
#include "upconv_fold.h"
extern "C" {
#include "ref/ref_ops.h"
}

struct filter {
    int cout, cin;
};
static const filter filters[] = {{1, 1}, {1, 9}, {3, 5}, {33, 1}, {5, 8}, {32, 8}, {31, 17}, {70, 9}, {33, 16}};

/* Whole numbers, so that every sum of four of them is exact, in bf16 too. */
static std::vector<float> whole(size_t n, int most)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) v[i] = std::nearbyint(wobble(i + 3, (float)most));
    return v;
}

static stored fold(const std::vector<float> &w, const filter &f, storage type, size_t skip = 0)
{
    stored k((size_t)f.cin * 16 * f.cout, type, skip);
    const upconv_fold_args a = {w.data(), k.data(), type, f.cout, f.cin};
    assert_clean(k_upconv_fold(nullptr, &a));
    return k;
}

/* The transposed convolution of upconv_fold.h by its definition: every input value is spread out. */
static std::vector<double> spread(const ref_conv &q, const std::vector<double> &x, const stored &k)
{
    std::vector<double> y((size_t)q.n * 4 * q.h * q.w * q.cout);
    for (int n = 0; n < q.n; n++)
        for (int i = 0; i < q.h; i++)
            for (int j = 0; j < q.w; j++)
                for (int ab = 0; ab < 16; ab++)
                    for (int ci = 0; ci < q.c1; ci++)
                        for (int co = 0; co < q.cout; co++) {
                            const int row = 2 * i + ab / 4 - 1, column = 2 * j + ab % 4 - 1;
                            if (row < 0 || row >= 2 * q.h || column < 0 || column >= 2 * q.w) continue;
                            y[((size_t)(n * 2 * q.h + row) * 2 * q.w + column) * q.cout + co] +=
                                x[((size_t)(n * q.h + i) * q.w + j) * q.c1 + ci] *
                                k[((size_t)ci * 16 + ab) * q.cout + co];
                        }
    return y;
}

/* Nearest x2, then the 3x3 cross-correlation with one row of zeros all round: exactly. */
Test(upconv_fold, stands_for_enlargement_and_convolution_in_every_thread_order)
{
    in_every_order([] {
        for (const filter &f : filters)
            for (storage type : storages) {
                ref_conv q = {};
                q.n = 2, q.h = 3, q.w = 4, q.c1 = f.cin, q.cout = f.cout;
                const std::vector<float> w = whole((size_t)f.cout * 9 * f.cin, 9),
                                         image = whole((size_t)q.n * q.h * q.w * q.c1, 7);
                const std::vector<double> x(image.begin(), image.end()), weight(w.begin(), w.end()), bias(f.cout, 0.0);
                std::vector<double> want((size_t)q.n * 4 * q.h * q.w * q.cout);
                ref_upconv(&q, x.data(), weight.data(), bias.data(), want.data());
                const std::vector<double> got = spread(q, x, fold(w, f, type));
                for (size_t i = 0; i < want.size(); i++)
                    cr_assert_eq(got[i], want[i], "%d from %d channels, element %zu", f.cout, f.cin, i);
            }
    });
}

Test(upconv_fold, rounds_the_sums_once_and_keeps_to_its_array)
{
    const filter f = {33, 9};
    const std::vector<float> w = wobbles(33 * 9 * 9, 1.0f);
    const stored plain = fold(w, f, STORE_F32);
    for (storage type : storages) {
        const stored k = fold(w, f, type, 1);
        for (size_t i = 0; i < k.n; i++) cr_assert_eq(k[i], kept(plain[i], type));
        k.assert_untouched_before();
    }
}

/* The gradient of a linear map is its transpose: dW[i] = sum over K's elements of dK dK/dW[i], with the
 * columns dK/dW[i] folded one by one; and sum(K(W) D) = sum(W dW(D)) for channels of any number. */
Test(upconv_unfold, is_the_transpose_of_fold_in_every_thread_order)
{
    in_every_order([] {
        for (storage type : storages) {
            stored dk(whole(16, 9), type);
            for (int i = 0; i < 9; i++) {
                std::vector<float> unit(9), dw(9, not_a_number);
                unit[i] = 1;
                const stored column = fold(unit, {1, 1}, STORE_F32);
                const upconv_unfold_args a = {dk.data(), type, dw.data(), 0, 1, 1};
                assert_clean(k_upconv_unfold(nullptr, &a));
                double want = 0;
                for (int k = 0; k < 16; k++) want += dk[k] * column[k];
                cr_assert_eq(dw[i], want);
            }
        }
        for (const filter &f : filters)
            for (storage type : storages)
                for (int accumulate : {0, 1}) {
                    const size_t n = (size_t)f.cout * 9 * f.cin;
                    const std::vector<float> w = whole(n, 9);
                    std::vector<float> dw(n, accumulate ? 5.0f : not_a_number);
                    stored dk(whole((size_t)f.cout * 16 * f.cin, 9), type, 1);
                    const stored k = fold(w, f, STORE_F32);
                    const upconv_unfold_args a = {dk.data(), type, dw.data(), accumulate, f.cout, f.cin};
                    assert_clean(k_upconv_unfold(nullptr, &a));
                    double large = 0, small = 0;
                    for (size_t i = 0; i < k.n; i++) large += (double)k[i] * dk[i];
                    for (size_t i = 0; i < n; i++) small += (double)w[i] * (dw[i] - (accumulate ? 5 : 0));
                    cr_assert_eq(large, small, "%d from %d channels", f.cout, f.cin);
                }
    });
}

/* dW = A^T dK A, element by element. */
Test(upconv_unfold, follows_the_formula)
{
    static const double A[4][3] = {{0, 0, 1}, {0, 1, 1}, {1, 1, 0}, {1, 0, 0}};
    for (const filter &f : filters) {
        std::vector<float> dw((size_t)f.cout * 9 * f.cin, not_a_number);
        stored dk(whole((size_t)f.cout * 16 * f.cin, 9), STORE_F32);
        const upconv_unfold_args a = {dk.data(), STORE_F32, dw.data(), 0, f.cout, f.cin};
        assert_clean(k_upconv_unfold(nullptr, &a));
        for (size_t e = 0; e < dw.size(); e++) {
            const size_t ci = e % f.cin, tap = e / f.cin % 9, co = e / f.cin / 9;
            double want = 0;
            for (size_t ab = 0; ab < 16; ab++)
                want += A[ab / 4][tap / 3] * A[ab % 4][tap % 3] * dk[(ci * 16 + ab) * f.cout + co];
            cr_assert_eq(dw[e], want, "%d from %d channels, element %zu", f.cout, f.cin, e);
        }
    }
}
