#include "adamw.h"
#include "kernels/stored.h"
#include "upconv_fold.h"

enum { NO_EMA = 1, ZERO_GRAD = 2 };

struct arenas {
    std::vector<float> w, g, m, v, ema;
    train_state state = {};
    adamw_args args;
    arenas(size_t n, int options) : w(wobbles(n, 1.0f)), g(wobbles(n, 5.0f)), m(wobbles(n, 0.3f)), v(n), ema(n)
    {
        for (size_t i = 0; i < n; i++) v[i] = fabsf(wobble(3 * i + 1, 0.2f)), ema[i] = wobble(i + 9, 1.0f);
        state.clip = 0.7f, state.lr = 0.01f, state.step_size = 0.05f, state.denom_scale = 3.0f;
        state.ema_decay = 0.9f, state.ema_rate = 0.1f;
        args = {w.data(), g.data(),           m.data(), v.data(), options & NO_EMA ? nullptr : ema.data(),
                &state,   (int64_t)n,         0.9,      0.99,     1e-3,
                0.2,      options & ZERO_GRAD};
    }
};

static void assert_same(const arenas &a, const arenas &b)
{
    assert_same_bits(a.w, b.w);
    assert_same_bits(a.g, b.g);
    assert_same_bits(a.m, b.m);
    assert_same_bits(a.v, b.v);
    assert_same_bits(a.ema, b.ema);
}

static const size_t counts[] = {1, 2, 3, 4, 5, 1021, 1024, 1027, 2050};

/* Loshchilov & Hutter 2019, algorithm 2, in double. */
Test(adamw, follows_the_algorithm_in_every_thread_order)
{
    in_every_order([] {
        for (size_t n : counts) {
            const arenas before(n, 0);
            arenas got(n, 0);
            assert_clean(k_adamw(nullptr, &got.args));
            for (size_t i = 0; i < n; i++) {
                const double g = 0.7 * before.g[i], m = 0.9 * before.m[i] + 0.1 * g,
                             v = 0.99 * before.v[i] + 0.01 * g * g;
                const double w = before.w[i] - 0.01 * 0.2 * before.w[i] - 0.05 * m / (sqrt(v) * 3.0 + 1e-3);
                cr_assert_float_eq(got.m[i], m, 1e-6);
                cr_assert_float_eq(got.v[i], v, 1e-6);
                cr_assert_float_eq(got.w[i], w, 1e-6);
                cr_assert_float_eq(got.ema[i], 0.9 * before.ema[i] + 0.1 * w, 1e-6);
                cr_assert_eq(got.g[i], before.g[i]);
            }
        }
    });
}

Test(adamw, backends_agree_to_the_bit)
{
    for (size_t n : counts)
        for (int options : {0, NO_EMA + 0, ZERO_GRAD + 0, NO_EMA | ZERO_GRAD}) {
            arenas gpu(n, options), cpu(n, options);
            assert_clean(k_adamw(nullptr, &gpu.args));
            adamw_range(&cpu.args, 0, (int64_t)n / 3);
            adamw_range(&cpu.args, (int64_t)n / 3, (int64_t)n);
            assert_same(cpu, gpu);
        }
}

Test(adamw, gradients_are_zeroed_on_request)
{
    arenas a(1027, ZERO_GRAD);
    assert_clean(k_adamw(nullptr, &a.args));
    for (float g : a.g) cr_assert_eq(g, 0.0f);
}

Test(adamw, a_skipped_update_changes_nothing_but_the_gradient)
{
    for (int options : {0, ZERO_GRAD + 0}) {
        const arenas before(1027, options);
        arenas gpu(1027, options), cpu(1027, options);
        for (arenas *a : {&gpu, &cpu}) {
            a->state.clip = 0.0f;
            for (size_t i = 0; i < 1027; i += 2) a->g[i] = i % 3 ? not_a_number : HUGE_VALF;
        }
        assert_clean(k_adamw(nullptr, &gpu.args));
        adamw_range(&cpu.args, 0, 1027);
        for (arenas *a : {&gpu, &cpu}) {
            if (options)
                for (float g : a->g) cr_assert_eq(g, 0.0f);
            a->g = before.g;
            assert_same(before, *a);
        }
    }
}

Test(adamw, arenas_off_the_16_byte_grid_are_the_same)
{
    arenas on(1027, 0), off(1027, 0);
    for (std::vector<float> *v : {&off.w, &off.g, &off.m, &off.v, &off.ema}) v->insert(v->begin(), 1, 8.0f);
    off.args.w = off.w.data() + 1, off.args.g = off.g.data() + 1, off.args.m = off.m.data() + 1;
    off.args.v = off.v.data() + 1, off.args.ema = off.ema.data() + 1;
    assert_clean(k_adamw(nullptr, &on.args));
    assert_clean(k_adamw(nullptr, &off.args));
    for (std::vector<float> *v : {&off.w, &off.g, &off.m, &off.v, &off.ema}) {
        cr_assert_eq((*v)[0], 8.0f);
        v->erase(v->begin());
    }
    assert_same(on, off);
}

Test(adamw, a_copy_of_the_weights_is_written_in_its_own_type)
{
    in_every_order([] {
        for (size_t n : counts)
            for (storage type : storages) {
                arenas plain(n, 0), gpu(n, 0), cpu(n, 0);
                stored low(n, type, n % 2), other(n, type);
                gpu.args.low = low.data(), cpu.args.low = other.data();
                gpu.args.low_type = cpu.args.low_type = type;
                assert_clean(k_adamw(nullptr, &plain.args));
                assert_clean(k_adamw(nullptr, &gpu.args));
                adamw_range(&cpu.args, 0, (int64_t)n / 3);
                adamw_range(&cpu.args, (int64_t)n / 3, (int64_t)n);
                assert_same(plain, gpu);
                assert_same(plain, cpu);
                for (size_t i = 0; i < n; i++) cr_assert_eq(low[i], kept(plain.w[i], type));
                for (size_t i = 0; i < n; i++) cr_assert_eq(other[i], kept(plain.w[i], type));
                low.assert_untouched_before();
            }
    });
}

Test(adamw, a_skipped_update_leaves_the_copy_alone)
{
    arenas gpu(1027, 0), cpu(1027, 0);
    stored low(1027, STORE_BF16), other(1027, STORE_BF16);
    gpu.args.low = low.data(), cpu.args.low = other.data();
    gpu.args.low_type = cpu.args.low_type = STORE_BF16;
    gpu.state.clip = cpu.state.clip = 0.0f;
    assert_clean(k_adamw(nullptr, &gpu.args));
    adamw_range(&cpu.args, 0, 1027);
    for (size_t i = 0; i < 1027; i++) cr_assert(std::isnan(low[i]) && std::isnan(other[i]));
}

/* ---- filters that are folded too ---- */

/* Filters among other parameters: so many quads stand before each, `tail` elements after the last. */
struct filter {
    int quads, cout, cin;
};
struct layout {
    std::vector<filter> filters;
    int tail;
};
static const std::vector<layout> layouts = {
    {{{0, 1, 1}}, 0},                                  /* nothing else; all but one of its elements in full quads */
    {{{0, 3, 5}}, 0},                                  /* three elements in the last quad */
    {{{0, 3, 5}}, 1},                                  /* whose fourth is another parameter's */
    {{{0, 33, 30}}, 2},                                /* several tiles both ways, at the start */
    {{{5, 33, 16}}, 0},                                /* tiles that are all full one way */
    {{{300, 33, 30}}, 0},                              /* at the end */
    {{{1, 3, 5}, {0, 1, 7}, {2, 32, 8}}, 5},           /* side by side: the second begins where a gap ends */
    {{{0, 31, 17}, {400, 70, 9}, {1, 5, 3}}, 1030},    /* more than a block between and behind them */
    {std::vector<filter>(ADAMW_FOLDS, {1, 2, 3}), 9}}; /* a full table */

static size_t filled_up(size_t n) { return (n + 3) / 4 * 4; }
static size_t weights_of(const adamw_fold &f) { return (size_t)9 * f.cout * f.cin; }
static size_t folds_of(const adamw_fold &f) { return (size_t)16 * f.cout * f.cin; }

/* The layout's table; *count parameters, *folds elements for the folds: one left out before each. */
static std::vector<adamw_fold> table_of(const layout &l, size_t *count, size_t *folds)
{
    std::vector<adamw_fold> table;
    *count = *folds = 0;
    for (const filter &f : l.filters) {
        const size_t at = filled_up(*count) + (size_t)4 * f.quads;
        table.push_back({(int64_t)at, (int64_t)*folds + 1, f.cout, f.cin});
        *count = at + weights_of(table.back());
        *folds += 1 + folds_of(table.back());
    }
    *count += (size_t)l.tail;
    return table;
}

struct folding {
    size_t count = 0, folds = 0; // table_of() sets them
    std::vector<adamw_fold> table;
    arenas a;
    stored low, folded;
    folding(const layout &l, int options, storage type)
        : table(table_of(l, &count, &folds)), a(count, options), low(count, type, 1), folded(folds, type)
    {
        a.args.low = low.data(), a.args.low_type = type, a.args.folded = folded.data();
        for (const adamw_fold &f : table) a.args.fold[a.args.folds++] = f;
    }
};

/* Of w as it is now, by the kernel of its own; the elements between the folds are left out. */
static stored folded_alone(const folding &o)
{
    stored k(o.folds, o.folded.type);
    for (const adamw_fold &f : o.table) {
        const upconv_fold_args a = {o.a.w.data() + f.w, k.at((size_t)f.k), k.type, f.cout, f.cin};
        assert_clean(k_upconv_fold(nullptr, &a));
    }
    return k;
}

Test(adamw, folds_to_the_bits_of_two_passes_in_every_thread_order)
{
    in_every_order([] {
        for (const layout &l : layouts)
            for (storage type : storages)
                for (int options : {0, NO_EMA | ZERO_GRAD}) {
                    folding got(l, options, type), want(l, options, type);
                    assert_clean(k_adamw(nullptr, &got.a.args));
                    adamw_range(&want.a.args, 0, (int64_t)want.count);
                    assert_same(want.a, got.a);
                    assert_same_bits(want.low.bytes, got.low.bytes);
                    assert_same_bits(folded_alone(want).bytes, got.folded.bytes);
                }
    });
}

/* K[ci, a, b, co] = sum over i, j of A[a, i] A[b, j] W[co, i, j, ci] with the W of algorithm 2, in double. */
Test(adamw, folds_what_the_algorithm_gives)
{
    static const double A[4][3] = {{0, 0, 1}, {0, 1, 1}, {1, 1, 0}, {1, 0, 0}};
    for (const layout &l : layouts) {
        const folding before(l, 0, STORE_F32);
        folding got(l, 0, STORE_F32);
        got.a.args.low = nullptr;
        assert_clean(k_adamw(nullptr, &got.a.args));
        const auto weight = [&](size_t i) {
            const arenas &b = before.a;
            const double g = 0.7 * b.g[i], m = 0.9 * b.m[i] + 0.1 * g, v = 0.99 * b.v[i] + 0.01 * g * g;
            return b.w[i] - 0.01 * 0.2 * b.w[i] - 0.05 * m / (sqrt(v) * 3.0 + 1e-3);
        };
        for (const adamw_fold &f : got.table)
            for (size_t e = 0; e < folds_of(f); e++) {
                const size_t co = e % f.cout, b = e / f.cout % 4, a = e / f.cout / 4 % 4, ci = e / f.cout / 16;
                double want = 0;
                for (size_t tap = 0; tap < 9; tap++)
                    want += A[a][tap / 3] * A[b][tap % 3] * weight((size_t)f.w + (co * 9 + tap) * f.cin + ci);
                cr_assert_float_eq(got.folded[(size_t)f.k + e], want, 4e-6, "%d from %d channels, element %zu", f.cout,
                                   f.cin, e);
            }
    }
}

Test(adamw, a_skipped_update_leaves_the_folds_alone)
{
    for (const layout &l : layouts)
        for (int options : {0, ZERO_GRAD + 0}) {
            folding before(l, options, STORE_BF16), got(l, options, STORE_BF16);
            got.a.state.clip = 0.0f;
            for (float &g : got.a.g) g = not_a_number;
            assert_clean(k_adamw(nullptr, &got.a.args));
            for (float g : got.a.g) cr_assert(options ? g == 0.0f : std::isnan(g));
            got.a.g = before.a.g;
            assert_same(before.a, got.a);
            assert_same_bits(before.low.bytes, got.low.bytes);
            assert_same_bits(before.folded.bytes, got.folded.bytes);
        }
}
