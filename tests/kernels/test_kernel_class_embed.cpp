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

/* Without labels image b has row b, of any type. */
Test(class_embed, without_labels_every_image_has_a_row)
{
    for (storage type : storages)
        for (storage table : storages) {
            embedding labelled({4, 33}, type, 0), rows({4, 33}, type, 0);
            stored own(wobbles(4 * 33, 3.0f), table);
            const std::vector<float> values = own.floats();
            labelled.labels = {0, 1, 2, 3};
            labelled.args.table = values.data();
            rows.args.table = own.data(), rows.args.table_type = table, rows.args.labels = nullptr;
            assert_clean(k_class_embed(nullptr, &labelled.args));
            assert_clean(k_class_embed(nullptr, &rows.args));
            assert_same_bits(labelled.y.bytes, rows.y.bytes);
        }
}

/* ---- gradients ---- */

struct gradients {
    embedding in;
    stored dy, dx;
    std::vector<float> dtable;
    class_embed_bwd_args args;
    gradients(const width_case &w, storage type, size_t skip = 0)
        : in(w, type, skip), dy(wobbles((size_t)w.n * w.width + 5, 2.0f), type, skip),
          dx(wobbles((size_t)w.n * w.width, 0.7f), type, skip), dtable(wobbles((size_t)CLASSES * w.width, 0.3f))
    {
        args = {dy.data(),
                in.x.data(),
                in.table.data(),
                in.labels.data(),
                dx.data(),
                dtable.data(),
                w.n,
                CLASSES,
                w.width,
                0,
                0,
                type,
                STORE_F32};
    }
    void run() { assert_clean(k_class_embed_bwd(nullptr, &args)); }
};

/* y of element i in double, x and E displaced by `by`. */
static double silu_at(const gradients &g, int i, double by)
{
    const int row = (int)g.in.labels[i / g.args.width];
    const double e = row < 0 ? 0 : (double)g.in.table[row * g.args.width + i % g.args.width];
    const double z = (double)g.in.x[i] + e + by;
    return z / (1 + std::exp(-z));
}

/* dx of element i, as a fourth-order difference of the formula in double. */
static double slope(const gradients &g, int i)
{
    const double h = 1e-3;
    const double near = silu_at(g, i, h) - silu_at(g, i, -h), far = silu_at(g, i, 2 * h) - silu_at(g, i, -2 * h);
    return (double)g.dy[i] * (8 * near - far) / (12 * h);
}

static void check_dx(const gradients &g, const std::vector<float> &before, bool adds)
{
    for (int i = 0; i < g.args.n * g.args.width; i++) {
        const double want = slope(g, i) + (adds ? (double)before[i] : 0);
        cr_assert_float_eq(g.dx[i], want, slack(want, g.args.type, 3e-6), "width %d, element %d", g.args.width, i);
    }
    g.dx.assert_untouched_before();
}

static void check_dtable(const gradients &g, const std::vector<float> &before, bool adds)
{
    for (int i = 0; i < CLASSES * g.args.width; i++) {
        double want = adds ? (double)before[i] : 0;
        for (int b = 0; b < g.args.n; b++)
            if (g.in.labels[b] == i / g.args.width) want += slope(g, b * g.args.width + i % g.args.width);
        cr_assert_float_eq(g.dtable[i], want, 6e-6, "width %d, entry %d", g.args.width, i);
    }
}

Test(class_embed, gradients_match_differences_in_every_thread_order)
{
    in_every_order([] {
        for (const width_case &w : widths)
            for (storage type : storages)
                for (int adds : {0, 1, 2, 3}) { /* bit 0: to dx; bit 1: to dE */
                    gradients g(w, type, adds % 2);
                    const std::vector<float> dx = g.dx.floats(), dtable = g.dtable;
                    g.args.add_x = adds & 1, g.args.add_table = adds >> 1;
                    g.run();
                    check_dx(g, dx, adds & 1);
                    check_dtable(g, dtable, adds >> 1);
                }
    });
}

/* Ten images of one class are added in the order of the batch, as a loop over floats does. */
Test(class_embed, equal_labels_are_added_in_order)
{
    gradients g({10, 33}, STORE_F32);
    g.in.labels.assign(10, 1);
    g.run();
    for (int column = 0; column < 33; column++) {
        float sum = 0;
        for (int b = 0; b < 10; b++) sum += g.dx[b * 33 + column];
        cr_assert_eq(g.dtable[33 + column], sum, "column %d", column);
        cr_assert_eq(g.dtable[column], 0.0f);
        cr_assert_eq(g.dtable[66 + column], 0.0f);
    }
}

Test(class_embed, gradients_agree_to_the_bit_between_backends)
{
    for (const width_case &w : widths)
        for (storage type : storages) {
            gradients gpu(w, type), cpu(w, type);
            gpu.run();
            for (int column = w.width - 1; column >= 0; column--) {
                class_embed_clear(&cpu.args, column);
                for (int b = 0; b < w.n; b++) class_embed_bwd_one(&cpu.args, b, column);
            }
            assert_same_bits(gpu.dx.bytes, cpu.dx.bytes);
            assert_same_bits(gpu.dtable, cpu.dtable);
        }
}

/* Each alone, and dx in place of dy. */
Test(class_embed, gradients_that_nobody_wants_are_left_out)
{
    for (storage type : storages) {
        gradients both({4, 33}, type), x({4, 33}, type), table({4, 33}, type), same({4, 33}, type);
        x.args.dtable = nullptr, table.args.dx = nullptr, same.args.dx = same.dy.data();
        both.run(), x.run(), table.run(), same.run();
        assert_same_bits(both.dx.bytes, x.dx.bytes);
        assert_same_bits(both.dtable, table.dtable);
        assert_same_bits(both.dtable, same.dtable);
        for (int i = 0; i < 4 * 33; i++) cr_assert_eq(same.dy[i], both.dx[i]);
    }
}

Test(class_embed, a_row_of_each_image_gets_its_gradient)
{
    for (storage type : storages) {
        gradients g({4, 33}, type);
        stored rows(wobbles(4 * 33, 3.0f), type), drows(4 * 33, type);
        g.in.table = rows.floats(), g.in.labels = {0, 1, 2, 3};
        g.args.table = rows.data(), g.args.dtable = drows.data(), g.args.labels = nullptr;
        g.args.rows = 4, g.args.table_type = type;
        g.run();
        check_dx(g, {}, false);
        assert_same_bits(drows.bytes, g.dx.bytes);
    }
}
