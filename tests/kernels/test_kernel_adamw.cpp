#include "adamw.h"
#include "kernels/rates_fixture.h"
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

/* 50 steps of torch.optim.AdamW and torch.optim.Adam, whose vectors do not decay. */
Test(adamw, fifty_steps_agree_with_pytorch)
{
    for (int adam : {0, 1}) {
        enum { N = RATES_WEIGHTS };
        std::vector<float> w(N), m(N), v(N), g(N);
        const uint8_t fixed = 2; /* the second block */
        train_state state = {};
        state.clip = 1.0f, state.lr = 0.01f;
        adamw_args args = {w.data(), g.data(), m.data(), v.data(), nullptr, &state, N, 0.9, 0.99, 1e-8, 0.1};
        args.adam = adam;
        args.fixed = &fixed;
        for (int i = 0; i < N; i++) w[i] = (i * 37 % 101 - 50) / 32.0f;
        for (int step = 1, shown = 0; step <= 50; step++) {
            state.step_size = (float)(0.01 / (1 - pow(0.9, step)));
            state.denom_scale = (float)(1 / sqrt(1 - pow(0.99, step)));
            for (int i = 0; i < N; i++) g[i] = ((step * 131 + i * 71) % 211 - 105) / 64.0f;
            assert_clean(k_adamw(nullptr, &args));
            if (step != rates_shown[shown]) continue;
            for (int i = 0; i < N; i++)
                cr_assert_float_eq(w[i], (adam ? rates_adam : rates_adamw)[shown][i], 5e-7, "%d: step %d w[%d]", adam,
                                   step, i);
            shown++;
        }
    }
}

Test(adamw, backends_agree_to_the_bit_on_weights_that_do_not_decay)
{
    for (size_t n : counts)
        for (int adam : {0, 1}) {
            arenas gpu(n, 0), cpu(n, 0), plain(n, 0);
            std::vector<uint8_t> fixed(n / 128 + 1);
            for (size_t i = 0; i < fixed.size(); i++) fixed[i] = (uint8_t)(i * 89 + 0x36);
            for (arenas *a : {&gpu, &cpu, &plain}) a->args.adam = adam, a->args.fixed = fixed.data();
            plain.args.fixed = nullptr;
            assert_clean(k_adamw(nullptr, &gpu.args));
            adamw_range(&cpu.args, 0, (int64_t)n / 3);
            adamw_range(&cpu.args, (int64_t)n / 3, (int64_t)n);
            adamw_range(&plain.args, 0, (int64_t)n);
            assert_same(cpu, gpu);
            for (size_t i = 0; i < n; i++) {
                const bool is_fixed = fixed[i / 128] >> i / 16 % 8 & 1;
                cr_assert_eq(cpu.w[i] == plain.w[i], !is_fixed, "weight %zu", i);
            }
        }
}

/* Every average is the same as if it were the only one. */
Test(adamw, averages_do_not_see_each_other)
{
    static const float rates[EMA_MOST] = {0.1f, 0.25f, 0.5f, 0.0625f};
    in_every_order([] {
        for (size_t n : counts) {
            arenas gpu(n, 0), cpu(n, 0);
            std::vector<float> more[2][EMA_MORE];
            adamw_more lists[2] = {};
            for (int side = 0; side < 2; side++)
                for (int k = 0; k < EMA_MORE; k++) {
                    arenas *a = side ? &cpu : &gpu;
                    more[side][k] = wobbles(n, (float)k + 1);
                    lists[side].ema[k] = more[side][k].data();
                    a->args.more = &lists[side];
                    a->state.more_ema_rate[k] = rates[k + 1];
                }
            assert_clean(k_adamw(nullptr, &gpu.args));
            adamw_range(&cpu.args, 0, (int64_t)n / 3);
            adamw_range(&cpu.args, (int64_t)n / 3, (int64_t)n);
            assert_same(cpu, gpu);
            for (int k = 0; k < EMA_MORE; k++) {
                arenas alone(n, 0);
                alone.ema = wobbles(n, (float)k + 1);
                alone.args.ema = alone.ema.data();
                alone.state.ema_rate = rates[k + 1];
                adamw_range(&alone.args, 0, (int64_t)n);
                assert_same_bits(alone.ema, more[0][k]);
                assert_same_bits(alone.ema, more[1][k]);
            }
        }
    });
}
