#include "concat.h"
#include "kernels/stored.h"

struct images {
    int64_t rows, c1, c2;
};
/* Elements alone; whole lines of 16 bytes of floats, of both types; one of the two off their grid; several
 * blocks in x and in y, with tails. */
static const images shapes[] = {{1, 1, 1},   {7, 3, 30},   {5, 4, 8},    {9, 8, 16},    {3, 12, 7},
                                {4, 33, 32}, {65, 24, 40}, {130, 3, 90}, {35, 128, 64}, {2, 520, 1032}};

static std::vector<float> before_of(size_t n, int add) { return add ? wobbles(n, 2.0f) : std::vector<float>(n, NAN); }

Test(concat, every_row_is_one_of_each_in_every_thread_order)
{
    in_every_order([] {
        for (const images &m : shapes)
            for (storage type : storages)
                for (size_t skip = 0; skip < 8; skip++) { /* bits 0, 1, 2: x, x2, y off the grid */
                    stored x(wobbles((size_t)(m.rows * m.c1), 3.0f), type, skip & 1);
                    stored x2(wobbles((size_t)(m.rows * m.c2), 5.0f), type, skip >> 1 & 1);
                    stored y((size_t)(m.rows * (m.c1 + m.c2)), type, skip >> 2 & 1);
                    const concat_args a = {x.data(), x2.data(), y.data(), type, m.rows, m.c1, m.c2};
                    assert_clean(k_concat(nullptr, &a));
                    for (int64_t r = 0; r < m.rows; r++)
                        for (int64_t i = 0; i < m.c1 + m.c2; i++) {
                            const float want = i < m.c1 ? x[(size_t)(r * m.c1 + i)] : x2[(size_t)(r * m.c2 + i - m.c1)];
                            cr_assert_eq(y[(size_t)(r * (m.c1 + m.c2) + i)], want, "row %ld, channel %ld of %ld + %ld",
                                         r, i, m.c1, m.c2);
                        }
                    y.assert_untouched_before();
                }
    });
}

/* Columns [from, from + c) of dy, set or added to what was there. */
static void check(const images &m, const stored &dy, int64_t from, int64_t c, int add, const stored &dx)
{
    const std::vector<float> old = before_of(dx.n, add);
    for (int64_t r = 0; r < m.rows; r++)
        for (int64_t i = 0; i < c; i++) {
            const size_t at = (size_t)(r * c + i);
            const double given = dy[(size_t)(r * (m.c1 + m.c2) + from + i)];
            const double want = add ? (double)kept(old[at], dx.type) + given : given; /* exact in double */
            cr_assert_eq(dx[at], kept((float)want, dx.type), "row %ld, channel %ld of %ld from %ld on", r, i, c, from);
        }
    dx.assert_untouched_before();
}

Test(concat, gradients_are_set_or_added_to_in_every_thread_order)
{
    in_every_order([] {
        for (const images &m : shapes)
            for (storage type : storages)
                for (int way = 0; way < 16; way++) { /* bits 0, 1: add; 2: dx off the grid; 3: dy */
                    const int add = way & 1, add2 = way >> 1 & 1;
                    stored dy(wobbles((size_t)(m.rows * (m.c1 + m.c2)), 3.0f), type, way >> 3 & 1);
                    stored dx(before_of((size_t)(m.rows * m.c1), add), type, way >> 2 & 1);
                    stored dx2(before_of((size_t)(m.rows * m.c2), add2), type);
                    const concat_bwd_args a = {dy.data(), dx.data(), dx2.data(), type, m.rows, m.c1, m.c2, add, add2};
                    assert_clean(k_concat_bwd(nullptr, &a));
                    check(m, dy, 0, m.c1, add, dx);
                    check(m, dy, m.c1, m.c2, add2, dx2);
                }
    });
}

Test(concat, a_gradient_that_is_not_wanted_changes_the_other_no_bit)
{
    for (const images &m : shapes)
        for (storage type : storages)
            for (int second = 0; second < 2; second++) {
                stored dy(wobbles((size_t)(m.rows * (m.c1 + m.c2)), 3.0f), type);
                stored d(before_of((size_t)(m.rows * (second ? m.c2 : m.c1)), 1), type);
                const concat_bwd_args a = {
                    dy.data(), second ? nullptr : d.data(), second ? d.data() : nullptr, type, m.rows, m.c1, m.c2, 1,
                    1};
                assert_clean(k_concat_bwd(nullptr, &a));
                check(m, dy, second ? m.c1 : 0, second ? m.c2 : m.c1, 1, d);
            }
}

/* The bits of a NaN, of -0 and of the smallest subnormal go through as they are. */
Test(concat, copies_bits)
{
    const uint32_t odd[4] = {0x7FC12345u, 0x80000000u, 1u, 0xFF812345u};
    for (int64_t c : {4, 1}) {
        uint32_t x[4], x2[4], y[8], dx[4], dx2[4];
        memcpy(x, odd, sizeof x);
        memcpy(x2, odd, sizeof x2);
        const concat_args a = {x, x2, y, STORE_F32, 4 / c, c, c};
        const concat_bwd_args b = {y, dx, dx2, STORE_F32, 4 / c, c, c, 0, 0};
        assert_clean(k_concat(nullptr, &a));
        assert_clean(k_concat_bwd(nullptr, &b));
        cr_assert_arr_eq(dx, odd, sizeof odd);
        cr_assert_arr_eq(dx2, odd, sizeof odd);
    }
}
