#include "grad_norm.h"
#include "kernels/emulated.h"

static update_args plain()
{
    update_args a = {};
    a.lr.peak = 0.5;
    a.beta1 = 0.9, a.beta2 = 0.99, a.max_grad_norm = 2.0;
    a.ema[0].kind = EMA_CONSTANT, a.ema[0].decay = 0.9;
    return a;
}

struct gradient {
    std::vector<float> g;
    std::vector<double> partial;
    train_state state = {};
    grad_norm_args args;
    explicit gradient(size_t count) : g(wobbles(count, 3.0f)), partial(reduce_chunks((int64_t)count), not_a_number)
    {
        state.beta1_pow = state.beta2_pow = 1.0;
        state.loss_sum = 0.75;
        args = {g.data(), partial.data(), &state, nullptr, (int64_t)count, plain()};
    }
    void on_cpu()
    {
        for (int64_t chunk = reduce_chunks(args.count) - 1; chunk >= 0; chunk--) grad_norm_chunk(&args, chunk);
        grad_norm_finish(&args);
    }
};

static const size_t counts[] = {1, 3, 4, 1021, 4096, 4097, 3 * 4096 + 1026, 300 * 4096 + 5};

Test(grad_norm, is_the_l2_norm_in_every_thread_order)
{
    in_every_order([] {
        for (size_t count : counts) {
            if (count > 100000) continue;
            gradient got(count);
            long double sum = 0;
            for (float g : got.g) sum += (long double)g * g;
            assert_clean(k_grad_norm(nullptr, &got.args));
            cr_assert_float_eq(got.state.grad_norm, sqrtl(sum), 1e-7 * sqrtl(sum), "count %zu", count);
            cr_assert_eq(got.state.loss, 0.75f);
            cr_assert_eq(got.state.loss_sum, 0.0);
            cr_assert_eq(got.state.step, 1u);
        }
    });
}

Test(grad_norm, backends_agree_to_the_bit)
{
    for (size_t count : counts) {
        gradient gpu(count), cpu(count);
        assert_clean(k_grad_norm(nullptr, &gpu.args));
        cpu.on_cpu();
        assert_same_bits(cpu.partial, gpu.partial);
        cr_assert_eq(memcmp(&cpu.state, &gpu.state, sizeof cpu.state), 0, "count %zu", count);
    }
}

Test(grad_norm, a_gradient_off_the_16_byte_grid_is_the_same)
{
    gradient on(4099), off(4099);
    off.g.insert(off.g.begin(), 100.0f);
    off.args.g = off.g.data() + 1;
    assert_clean(k_grad_norm(nullptr, &on.args));
    assert_clean(k_grad_norm(nullptr, &off.args));
    assert_same_bits(on.partial, off.partial);
}

Test(grad_norm, squares_beyond_the_range_of_float_are_fine)
{
    gradient got(5);
    got.g = {1e30f, 1e30f, 0.0f, -1e30f, 1e30f};
    got.args.g = got.g.data();
    assert_clean(k_grad_norm(nullptr, &got.args));
    cr_assert_float_eq(got.state.grad_norm, 2e30, 1e24);
    cr_assert_eq(got.state.updates, 1u);
}

Test(grad_norm, one_bad_element_anywhere_skips_the_update)
{
    for (float bad : {not_a_number, HUGE_VALF, -HUGE_VALF})
        for (size_t at : {(size_t)0, (size_t)4096, (size_t)4500}) {
            gradient got(4501);
            got.g[at] = bad;
            assert_clean(k_grad_norm(nullptr, &got.args));
            cr_assert_eq(got.state.clip, 0.0f);
            cr_assert_eq(got.state.skipped, 1u);
            cr_assert_eq(got.state.updates, 0u);
            cr_assert_eq(got.state.step, 1u);
        }
}

/* Steps 62, 63, 64 and 65, the second of them skipped: the ring's last two places, then its first two. */
Test(grad_norm, a_ring_keeps_what_every_step_came_to)
{
    for (bool on_gpu : {true, false}) {
        std::vector<train_record> ring(TRAIN_HISTORY, train_record{7.0f, 7.0f, 7.0f, 7});
        for (uint64_t step = 62; step < 66; step++) {
            gradient got(5);
            got.state.step = step;
            got.args.history = ring.data();
            if (step == 63) got.g[2] = not_a_number;
            if (on_gpu)
                assert_clean(k_grad_norm(nullptr, &got.args));
            else
                got.on_cpu();
            const train_record &r = ring[step % 64];
            cr_assert(r.loss == 0.75f && r.lr == 0.5f && r.skipped == (step == 63));
            cr_assert_eq(memcmp(&r.grad_norm, &got.state.grad_norm, sizeof r.grad_norm), 0);
        }
        for (int place = 2; place < 62; place++) cr_assert(ring[place].loss == 7.0f && ring[place].skipped == 7);
    }
}
