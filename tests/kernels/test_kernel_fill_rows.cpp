#include "fill_rows.h"
#include "kernels/stored.h"

struct matrix {
    int64_t rows, c;
};
static const matrix matrices[] = {{1, 1},    {1, 3},    {1, 260},  {7, 4},    {33, 5},  {64, 127},
                                  {65, 128}, {33, 132}, {300, 33}, {2050, 3}, {5000, 1}};

Test(fill_rows, every_row_gets_the_bias_in_every_thread_order)
{
    in_every_order([] {
        for (const matrix &m : matrices)
            for (storage type : storages)
                for (int with = 0; with < 4; with++) {
                    const size_t skip = (size_t)(m.rows % 4);
                    const std::vector<float> bias = wobbles(m.c, 3.0f);
                    stored residual(wobbles(m.rows * m.c, 2.0f), type, m.c % 2), y(m.rows * m.c, type, skip);
                    const fill_rows_args a = {
                        y.data(), type, with & 1 ? bias.data() : nullptr, with & 2 ? residual.data() : nullptr,
                        m.rows,   m.c};
                    assert_clean(k_fill_rows(nullptr, &a));
                    for (size_t i = 0; i < y.n; i++) {
                        const float sum = (with & 1 ? bias[i % m.c] : 0.0f) + (with & 2 ? residual[i] : 0.0f);
                        cr_assert_eq(y[i], kept(sum, type), "[%ld, %ld] element %zu", m.rows, m.c, i);
                    }
                    y.assert_untouched_before();
                }
    });
}

Test(fill_rows, the_residual_may_be_the_result)
{
    for (const matrix &m : matrices)
        for (storage type : storages) {
            const std::vector<float> bias = wobbles(m.c, 3.0f);
            stored residual(wobbles(m.rows * m.c, 2.0f), type), y(m.rows * m.c, type), same = residual;
            const fill_rows_args a = {y.data(), type, bias.data(), residual.data(), m.rows, m.c};
            const fill_rows_args b = {same.data(), type, bias.data(), same.data(), m.rows, m.c};
            assert_clean(k_fill_rows(nullptr, &a));
            assert_clean(k_fill_rows(nullptr, &b));
            assert_same_bits(y.bytes, same.bytes);
        }
}
