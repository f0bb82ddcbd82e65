#include "column_sum.h"
#include "grad_sums.h"
#include "kernels/stored.h"

struct matrix {
    int64_t rows, c;
};

/* One row, one column, ragged tiles in both directions, several tiles across, several blocks of rows. */
static const matrix matrices[] = {{1, 1},    {1, 3},     {1, 260},  {7, 4},    {9, 5},    {64, 127},
                                  {65, 128}, {130, 132}, {300, 33}, {2050, 3}, {5000, 1}, {700, 30}};

struct summed {
    std::vector<float> sums, partial;
    summed(stored &x, const matrix &m, float before = not_a_number)
        : sums(m.c, before), partial(column_sum_bytes(m.rows, m.c) / sizeof(float), not_a_number)
    {
        const column_sum_args args = {x.data(), x.type, m.rows, m.c, partial.data()};
        assert_clean(k_column_sum(nullptr, &args));
        const int rows = (int)column_sum_panel(m.rows, m.c).down, add = !std::isnan(before);
        const grad_sum final = {partial.data(), sums.data(), rows, (int)m.c, (int)m.c, STORE_F32, add};
        assert_clean(k_grad_sums(nullptr, &final, 1));
    }
};

static double true_sum(const stored &x, const matrix &m, int64_t column)
{
    double sum = 0;
    for (int64_t r = 0; r < m.rows; r++) sum += x[r * m.c + column];
    return sum;
}

Test(column_sum, adds_up_the_columns_in_every_thread_order)
{
    for (const matrix &m : matrices)
        for (storage type : storages) {
            stored x(wobbles(m.rows * m.c, 3.0f), type);
            std::vector<float> first;
            in_every_order([&] {
                summed set(x, m), added(x, m, 100.0f);
                for (int64_t i = 0; i < m.c; i++) {
                    const double want = true_sum(x, m, i), allowed = 1e-6 * (fabs(want) + sqrt((double)m.rows));
                    cr_assert_float_eq(set.sums[i], want, allowed, "[%ld, %ld] column %ld", m.rows, m.c, i);
                    cr_assert_eq(added.sums[i], 100.0f + set.sums[i]);
                }
                if (first.empty()) first = set.sums;
                assert_same_bits(first, set.sums);
            });
        }
}

Test(column_sum, alignment_does_not_matter)
{
    for (const matrix &m : {matrix{65, 128}, matrix{65, 30}})
        for (storage type : storages) {
            stored on(wobbles(m.rows * m.c, 3.0f), type), off(wobbles(m.rows * m.c, 3.0f), type, 1);
            summed a(on, m), b(off, m);
            assert_same_bits(a.sums, b.sums);
        }
}

/* More rows than the blocks of rows have at the least: a block takes more of them. */
Test(column_sum, many_rows_keep_their_precision)
{
    const matrix m = {COLUMN_SUM_BLOCKS * 64 + 5000, 128};
    const panel p = column_sum_panel(m.rows, m.c);
    cr_assert(p.down <= COLUMN_SUM_BLOCKS && p.down * p.height >= m.rows && (p.down - 1) * p.height < m.rows);
    stored x(std::vector<float>(m.rows * m.c, 0.1f), STORE_F32);
    summed s(x, m);
    for (float v : s.sums) cr_assert_float_eq(v, 0.1f * (double)m.rows, 1e-6 * 0.1 * m.rows);
}

Test(panel, covers_every_row_once)
{
    for (int64_t c : {1, 3, 4, 5, 30, 64, 127, 128, 129, 1000})
        for (int64_t rows : {1, 7, 256, 257, 5000, 3000000})
            for (int64_t most : {0, 512}) {
                const panel p = panel_of(rows, c, 8, most);
                cr_assert_eq(p.width * p.depth, PANEL_THREADS);
                cr_assert(p.width <= PANEL_WIDTH && (p.width == 1 || p.width / 2 * 4 < c)); /* few threads idle */
                cr_assert((int64_t)p.across * p.width * 4 >= c && (int64_t)(p.across - 1) * p.width * 4 < c);
                cr_assert(p.down * p.height >= rows && (p.down - 1) * p.height < rows && p.height % p.depth == 0);
                cr_assert(most ? p.down <= most : p.height <= 8 * p.depth);
            }
}
