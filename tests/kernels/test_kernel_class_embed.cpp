#include "kernels/stored.h"
#include "class_embed.h"

enum { CLASSES = 3 };

struct width_case {
    int n, width;
};
/* Rows off the grid of quads, tails of 1 to 3, one quad, one and several blocks of 512. */
static const width_case widths[] = {{1, 1}, {4, 3}, {5, 4}, {4, 33}, {3, 514}, {2, 1029}};

static std::vector<int64_t> labels_of(int n)
{
    std::vector<int64_t> v(n);
    for (int b = 0; b < n; b++) v[b] = (b + 1) % (CLASSES + 1) - 1; /* 0, 1, 2, -1, 0 */
    return v;
}

struct embedding {
    stored x, y;
    std::vector<float> table;
    std::vector<int64_t> labels;
    class_embed_args args;
    embedding(const width_case &w, storage type, size_t skip)
        : x(wobbles((size_t)w.n * w.width, 9.0f), type, skip), y((size_t)w.n * w.width, type, skip),
          table(wobbles((size_t)CLASSES * w.width, 4.0f)), labels(labels_of(w.n))
    {
        args = {x.data(), table.data(), labels.data(), y.data(), w.n, w.width, type};
    }
};

/* In double, from UNet2DModel: silu(emb + class_emb). */
static double expected(const embedding &e, int i)
{
    const int b = i / e.args.width, column = i % e.args.width;
    const double z = (double)e.x[i] + (e.labels[b] < 0 ? 0 : (double)e.table[e.labels[b] * e.args.width + column]);
    return z / (1 + std::exp(-z));
}

Test(class_embed, follows_the_formula_in_every_thread_order)
{
    in_every_order([] {
        for (const width_case &w : widths)
            for (storage type : storages)
                for (size_t skip : {0, 1}) {
                    embedding e(w, type, skip);
                    assert_clean(k_class_embed(nullptr, &e.args));
                    for (int i = 0; i < w.n * w.width; i++) {
                        const double want = expected(e, i);
                        cr_assert_float_eq(e.y[i], want, slack(want, type, 2e-6 * (1 + fabs(want))),
                                           "width %d, element %d: %.9g, not %.9g", w.width, i, (double)e.y[i], want);
                    }
                    e.y.assert_untouched_before();
                }
    });
}

Test(class_embed, backends_agree_to_the_bit)
{
    for (const width_case &w : widths)
        for (storage type : storages) {
            embedding gpu(w, type, 0), cpu(w, type, 0);
            assert_clean(k_class_embed(nullptr, &gpu.args));
            for (int b = 0; b < w.n; b++)
                for (int q = 0; q < quads_of(w.width); q++) class_embed_quad(&cpu.args, b, q, type);
            assert_same_bits(gpu.y.bytes, cpu.y.bytes);
        }
}

/* Label -1 does not read the table, which may not be there. */
Test(class_embed, no_label_is_silu_alone)
{
    embedding e({4, 33}, STORE_F32, 0), without({4, 33}, STORE_F32, 0);
    e.labels.assign(4, -1), without.labels.assign(4, -1);
    without.args.table = nullptr;
    assert_clean(k_class_embed(nullptr, &e.args));
    assert_clean(k_class_embed(nullptr, &without.args));
    for (int i = 0; i < 4 * 33; i++) cr_assert_float_eq(e.y[i], expected(e, i), 2e-6 * (1 + fabs(e.x[i])));
    assert_same_bits(e.y.bytes, without.y.bytes);
}

Test(class_embed, works_in_place)
{
    for (storage type : storages) {
        embedding apart({3, 514}, type, 0), same({3, 514}, type, 0);
        same.args.y = same.x.data();
        assert_clean(k_class_embed(nullptr, &apart.args));
        assert_clean(k_class_embed(nullptr, &same.args));
        assert_same_bits(apart.y.bytes, same.x.bytes);
    }
}
