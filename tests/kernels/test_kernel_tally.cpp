#include "kernels/emulated.h"
#include "tally.h"

Test(tally, adds_the_scaled_losses_and_moves_on)
{
    in_every_order([] {
        for (int n : {1, 3, 255, 256, 257, 1000}) {
            const std::vector<float> loss = wobbles(n, 1.0f);
            train_state gpu = {}, cpu = {};
            gpu.loss_sum = cpu.loss_sum = 0.25;
            gpu.sample = cpu.sample = 0xFFFFFFFFu;
            const tally_args to_gpu = {loss.data(), &gpu, n, 0.5 / n, 3}, to_cpu = {loss.data(), &cpu, n, 0.5 / n, 3};
            assert_clean(k_tally(nullptr, &to_gpu));
            tally_one(&to_cpu);
            double sum = 0;
            for (float v : loss) sum += v;
            cr_assert_float_eq(gpu.loss_sum, 0.25 + 0.5 * sum / n, 1e-12);
            cr_assert_eq(gpu.sample, 0x100000002u);
            cr_assert_eq(memcmp(&gpu, &cpu, sizeof gpu), 0);
        }
    });
}
