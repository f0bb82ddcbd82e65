#include "kernels/emulated.h"
#include "tally.h"

/* Losses, errors and rows of n images. */
struct losses {
    std::vector<float> loss, error, rows;
    explicit losses(int n) : loss(wobbles(n, 1.0f)), error(wobbles(n, 3.0f)), rows((size_t)n * TABLE_COLUMNS, 99.0f)
    {
        for (int i = 0; i < n; i++) rows[(size_t)i * TABLE_COLUMNS + TABLE_LEVEL] = (float)(i * i % 7);
    }
    tally_args args(train_state *state) const
    {
        const int n = (int)loss.size();
        return {loss.data(), error.data(), rows.data(), state, n, 0.5 / n, 3};
    }
};

Test(tally, adds_the_scaled_losses_and_moves_on)
{
    in_every_order([] {
        for (int n : {1, 3, 31, 255, 256, 257, 1000}) {
            const losses l(n);
            train_state gpu = {}, cpu = {};
            gpu.loss_sum = cpu.loss_sum = 0.25;
            gpu.sample = cpu.sample = 0xFFFFFFFFu;
            gpu.step_error[1] = cpu.step_error[1] = 8;
            const tally_args to_gpu = l.args(&gpu), to_cpu = l.args(&cpu);
            assert_clean(k_tally(nullptr, &to_gpu));
            tally_one(&to_cpu);
            double sum = 0, error[TRAIN_LEVELS] = {0, 8}, images[TRAIN_LEVELS] = {0};
            for (int i = 0; i < n; i++) {
                sum += l.loss[i];
                error[i * i % 7] += l.error[i];
                images[i * i % 7]++;
            }
            cr_assert_float_eq(gpu.loss_sum, 0.25 + 0.5 * sum / n, 1e-12);
            cr_assert_eq(gpu.sample, 0x100000002u);
            for (int k = 0; k < TRAIN_LEVELS; k++) {
                cr_assert_float_eq(gpu.step_error[k], error[k], 1e-9, "level %d", k);
                cr_assert_eq(gpu.step_images[k], images[k]);
            }
            cr_assert_eq(memcmp(&gpu, &cpu, sizeof gpu), 0);
        }
    });
}

Test(tally, an_image_whose_error_is_not_finite_counts_in_no_level)
{
    losses l(10);
    train_state state = {};
    l.error[3] = not_a_number, l.error[4] = INFINITY;
    const tally_args a = l.args(&state);
    assert_clean(k_tally(nullptr, &a));
    double error = 0, images = 0;
    for (int k = 0; k < TRAIN_LEVELS; k++) error += state.step_error[k], images += state.step_images[k];
    cr_assert_eq(images, 8);
    cr_assert(std::isfinite(error));
}

Test(tally, adds_the_bounds_that_are_finite)
{
    in_every_order([] {
        for (int n : {1, 31, 257, 1000}) {
            const losses l(n);
            std::vector<float> vb = wobbles(n, 2.0f);
            train_state gpu = {}, cpu = {};
            double sum = 0.5;
            for (int i = 0; i < n; i++) {
                if (i == 7) vb[i] = not_a_number;
                if (i != 7) sum += vb[i];
            }
            gpu.step_vb = cpu.step_vb = 0.5;
            tally_args to_gpu = l.args(&gpu), to_cpu = l.args(&cpu);
            to_gpu.vb = to_cpu.vb = vb.data();
            assert_clean(k_tally(nullptr, &to_gpu));
            tally_one(&to_cpu);
            cr_assert_float_eq(gpu.step_vb, sum, 1e-9);
            cr_assert_eq(gpu.step_vb_images, n > 7 ? n - 1 : n);
            cr_assert_eq(memcmp(&gpu, &cpu, sizeof gpu), 0);
        }
    });
}
