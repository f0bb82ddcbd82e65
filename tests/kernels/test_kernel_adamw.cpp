#include "adamw.h"
#include "kernels/stored.h"

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
