#include "grad_sums.h"
#include "kernels/stored.h"

#include <memory>

struct sum_case {
    int rows, count, gap; /* gap: elements between rows */
    storage type;
    int add, shift; /* shift: elements that `from` begins after an aligned address */
};

/* Conversions of whole quads, of a rest, of more than a block; sums of one column, of a ragged last block of columns, of
 * fewer and more rows than slices. */
static const sum_case cases[] = {
    {1, 1, 0, STORE_BF16, 0, 0},    {1, 4, 0, STORE_BF16, 1, 0},   {1, 4099, 0, STORE_BF16, 1, 0},
    {1, 8192, 0, STORE_BF16, 0, 0}, {1, 8195, 0, STORE_F32, 0, 0}, {1, 4100, 0, STORE_BF16, 1, 1},
    {2, 1, 0, STORE_F32, 0, 0},     {3, 33, 5, STORE_F32, 1, 0},   {128, 64, 128, STORE_F32, 0, 0},
    {130, 95, 1, STORE_F32, 1, 1},  {9, 40, 2, STORE_BF16, 0, 1}};
enum { CASES = sizeof cases / sizeof *cases };

struct operands {
    std::unique_ptr<stored> from;
    std::vector<float> to, before;
    grad_sum sum;
    operands(const sum_case &c, int k)
    {
        const int ld = c.count + c.gap;
        from.reset(new stored(wobbles((size_t)c.rows * ld, 1.0f + (float)k), c.type, c.shift));
        to = c.add ? wobbles(c.count, 3.0f) : std::vector<float>(c.count, not_a_number);
        before = to;
        sum = {from->data(), to.data(), c.rows, c.count, ld, c.type, c.add};
    }
    void check(int k) const
    {
        for (int i = 0; i < sum.count; i++) {
            double want = 0;
            for (int r = 0; r < sum.rows; r++) want += (*from)[(size_t)r * sum.ld + i];
            const float out = (sum.add ? before[i] : 0.0f) + (float)want;
            cr_assert_float_eq(to[i], out, 1e-7 * (1 + fabs(out)), "sum %d, element %d: %.9g, not %.9g", k, i, to[i],
                               out);
        }
    }
};

/* More sums than the table of a launch holds. */
Test(grad_sums, completes_every_sum_in_every_thread_order)
{
    std::vector<float> first;
    in_every_order([&] {
        std::vector<operands> all;
        std::vector<grad_sum> list;
        std::vector<float> results;
        for (int k = 0; k < 2 * GRAD_SUMS_LAUNCH + 3; k++) all.emplace_back(cases[k % CASES], k);
        for (const operands &o : all) list.push_back(o.sum);
        assert_clean(k_grad_sums(nullptr, list.data(), (int)list.size()));
        for (size_t k = 0; k < all.size(); k++) {
            all[k].check((int)k);
            results.insert(results.end(), all[k].to.begin(), all[k].to.end());
        }
        if (first.empty()) first = results;
        assert_same_bits(first, results);
    });
}

Test(grad_sums, no_sums_launch_nothing) { assert_clean(k_grad_sums(nullptr, nullptr, 0)); }
