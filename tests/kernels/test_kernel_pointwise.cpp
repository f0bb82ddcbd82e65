#include "kernels/stored.h"
#include "pointwise.h"

static const pointwise_kind kinds[] = {POINT_KIND_COPY,     POINT_KIND_AFFINE, POINT_KIND_RELU,
                                       POINT_KIND_RELU_BWD, POINT_KIND_SILU,   POINT_KIND_SILU_BWD};
/* Tails of 1 to 3, one and several blocks of 4096, one of them full. */
static const size_t counts[] = {1, 2, 3, 4, 7, 1024, 1030, 4096, 4097, 9001};

static bool needs_other(pointwise_kind kind) { return kind == POINT_KIND_RELU_BWD || kind == POINT_KIND_SILU_BWD; }

/* In double, the gradients as differences of four points. */
static double silu(double z) { return z / (1 + exp(-z)); }
static double expected(pointwise_kind kind, double x, double other)
{
    const double h = 1e-3;
    switch (kind) {
    case POINT_KIND_COPY: return x;
    case POINT_KIND_AFFINE: return 1.5 * x - 0.25;
    case POINT_KIND_RELU: return std::max(x, 0.0);
    case POINT_KIND_RELU_BWD: return other > 0 ? x : 0;
    case POINT_KIND_SILU: return silu(x);
    case POINT_KIND_SILU_BWD:
        return x * (8 * (silu(other + h) - silu(other - h)) - (silu(other + 2 * h) - silu(other - 2 * h))) / (12 * h);
    }
    return not_a_number;
}

/* Of either sign wherever the operand beside it is positive. */
static std::vector<float> others(size_t n, float scale)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) v[i] = wobble(3 * i + 1, scale);
    return v;
}

static pointwise_args over(pointwise_kind kind, stored &x, stored &other, stored &y, int accumulate)
{
    return {kind,     x.data(),     needs_other(kind) ? other.data() : nullptr,
            y.data(), x.type,       other.type,
            y.type,   (int64_t)x.n, accumulate,
            1.5f,     -0.25f};
}

Test(pointwise, follows_the_formulas_in_every_thread_order)
{
    in_every_order([] {
        for (pointwise_kind kind : kinds)
            for (size_t n : {(size_t)3, (size_t)1030, (size_t)4097})
                for (storage type : storages)
                    for (int accumulate : {0, 1}) {
                        stored x(wobbles(n, 20.0f), type), other(others(n, 9.0f), type);
                        stored y(accumulate ? std::vector<float>(n, 2.0f) : std::vector<float>(n, not_a_number), type);
                        const pointwise_args a = over(kind, x, other, y, accumulate);
                        assert_clean(k_pointwise(nullptr, &a));
                        for (size_t i = 0; i < n; i++) {
                            const double want = expected(kind, x[i], other[i]) + (accumulate ? 2 : 0);
                            cr_assert_float_eq(y[i], want, slack(want, type, 1e-6 * (1 + fabs(x[i]))),
                                               "kind %d element %zu", kind, i);
                        }
                    }
    });
}

/* Each operand of its own type and on its own alignment: the same as all of them float and aligned, but
 * for the rounding at the end. */
Test(pointwise, types_and_alignments_mix)
{
    for (pointwise_kind kind : kinds)
        for (size_t n : counts)
            for (int mix = 0; mix < 8; mix++) {
                const storage tx = storages[mix & 1], to = storages[mix >> 1 & 1], ty = storages[mix >> 2];
                stored x(wobbles(n, 5.0f), tx, n % 3), other(others(n, 6.0f), to, mix % 2), y(n, ty, n % 4);
                stored fx(x.floats(), STORE_F32), fother(other.floats(), STORE_F32), fy(n, STORE_F32);
                const pointwise_args a = over(kind, x, other, y, 0), plain = over(kind, fx, fother, fy, 0);
                assert_clean(k_pointwise(nullptr, &a));
                assert_clean(k_pointwise(nullptr, &plain));
                for (size_t i = 0; i < n; i++) cr_assert_eq(y[i], kept(fy[i], ty), "kind %d element %zu", kind, i);
                y.assert_untouched_before();
            }
}

Test(pointwise, works_in_place)
{
    for (pointwise_kind kind : kinds)
        for (storage type : storages) {
            stored x(wobbles(5003, 5.0f), type), other(others(5003, 6.0f), type), y(5003, type), same = x;
            const pointwise_args a = over(kind, x, other, y, 0), in_place = over(kind, same, other, same, 0);
            assert_clean(k_pointwise(nullptr, &a));
            assert_clean(k_pointwise(nullptr, &in_place));
            assert_same_bits(y.bytes, same.bytes);
            if (!needs_other(kind)) continue;
            const pointwise_args onto_other = over(kind, x, other, other, 0);
            assert_clean(k_pointwise(nullptr, &onto_other));
            assert_same_bits(y.bytes, other.bytes);
        }
}

Test(pointwise, silu_is_right_at_both_ends)
{
    stored x({-1e30f, -200.0f, -100.0f, 0.0f, 100.0f, 1e30f, not_a_number}, STORE_F32), y(7, STORE_F32);
    stored one({1, 1, 1, 1, 1, 1, 1}, STORE_F32), slope(7, STORE_F32);
    const pointwise_args a = over(POINT_KIND_SILU, x, x, y, 0), b = over(POINT_KIND_SILU_BWD, one, x, slope, 0);
    assert_clean(k_pointwise(nullptr, &a));
    assert_clean(k_pointwise(nullptr, &b));
    const double values[] = {0, 0, 0, 0, 100, 1e30}, slopes[] = {0, 0, 0, 0.5, 1, 1};
    for (int i = 0; i < 6; i++) {
        cr_assert_float_eq(y[i], values[i], 1e-7 * values[i] + 1e-40, "silu(%g) = %g", x[i], y[i]);
        cr_assert_float_eq(slope[i], slopes[i], 1e-6, "silu'(%g) = %g", x[i], slope[i]);
    }
    cr_assert(std::isnan(y[6]) && std::isnan(slope[6]));
}
