#include "draw.h"
#include "kernels/emulated.h"
#include "kernels/training_batch.h"
#include "loss_history.h"
#include "loss.h"
#include "tally.h"
#include <algorithm>

/* ---- the distribution ---- */

struct distribution {
    std::vector<int64_t> cumulative;
    std::vector<float> factor;
    importance_args args;
    explicit distribution(const std::vector<float> &history)
        : cumulative(history.size() / HISTORY_COLUMNS + 1, -1), factor(history.size() / HISTORY_COLUMNS, not_a_number)
    {
        args = {history.data(), cumulative.data(), factor.data(), (int)factor.size()};
    }
    double p(int t) const { return (double)(cumulative[t + 1] - cumulative[t]) / 4294967296.0; }
};

static std::vector<float> history_of(int T, int count)
{
    std::vector<float> h = wobbles((size_t)T * HISTORY_COLUMNS, 1.0f);
    for (float &x : h) x = std::fabs(x);
    for (int t = 0; t < T; t++) h[(size_t)t * HISTORY_COLUMNS + HISTORY_COUNT] = (float)count;
    return h;
}

/* An independent program's figures, of histories of three losses; here each is there three times, and the tenth loss is the
 * root of the mean square of the others. */
Test(loss_history, probabilities_and_weights_are_those_of_the_paper)
{
    static const double losses[4][3] = {{2, 3, 4}, {.5, .5, .5}, {.25, .5, 1}, {.1, .1, .2}};
    static const double p[4] = {.70424533, .11346433, .15001849, .03227185},
                        weight[4] = {.35498993, 2.20333556, 1.66646130, 7.74668969};
    std::vector<float> history(4 * HISTORY_COLUMNS);
    for (int t = 0; t < 4; t++) {
        const double *l = losses[t];
        for (int k = 0; k < 9; k++) history[t * HISTORY_COLUMNS + k] = (float)l[k % 3];
        history[t * HISTORY_COLUMNS + 9] = (float)std::sqrt((l[0] * l[0] + l[1] * l[1] + l[2] * l[2]) / 3);
        history[t * HISTORY_COLUMNS + HISTORY_COUNT] = LOSSES_KEPT;
    }
    const distribution d(history);
    assert_clean(k_importance(nullptr, &d.args));
    for (int t = 0; t < 4; t++) {
        cr_expect_float_eq(d.p(t), p[t], 2e-8, "p of %d is %.9f", t, d.p(t));
        cr_expect_float_eq((double)d.factor[t], weight[t], 1e-6 * weight[t], "weight of %d is %.9f", t,
                           (double)d.factor[t]);
    }
}

Test(loss_history, the_distribution_has_the_same_bits_on_both_backends)
{
    in_every_order([] {
        for (int T : {1, 4, 255, 256, 257, 1000}) {
            const std::vector<float> history = history_of(T, LOSSES_KEPT + 3);
            const distribution gpu(history), cpu(history);
            assert_clean(k_importance(nullptr, &gpu.args));
            importance_one(&cpu.args);
            assert_same_bits(cpu.cumulative, gpu.cumulative);
            assert_same_bits(cpu.factor, gpu.factor);
            cr_assert_eq(gpu.cumulative[0], 0);
            cr_assert_eq(gpu.cumulative[T], (int64_t)1 << 32);
            double sum = 0, all = 0;
            std::vector<double> w(T);
            for (int t = 0; t < T; t++, sum = 0) {
                for (int k = 0; k < LOSSES_KEPT; k++) sum += std::pow((double)history[t * HISTORY_COLUMNS + k], 2);
                all += w[t] = std::sqrt(sum / LOSSES_KEPT);
            }
            for (int t = 0; t < T; t++) {
                const double p = 0.999 * w[t] / all + 0.001 / T;
                cr_assert_float_eq(gpu.p(t), p, 1e-9);
                cr_assert_float_eq((double)gpu.factor[t] * T * gpu.p(t), 1, 1e-6);
            }
        }
    });
}

Test(loss_history, it_is_uniform_until_every_level_has_ten_losses)
{
    in_every_order([] {
        for (int T : {3, 300})
            for (int missing : {0, T / 2, T - 1, -1}) {
                std::vector<float> history = history_of(T, LOSSES_KEPT);
                if (missing >= 0) history[(size_t)missing * HISTORY_COLUMNS + HISTORY_COUNT] = LOSSES_KEPT - 1;
                if (missing < 0) /* of losses of 0 no weights can be made */
                    for (int i = 0; i < (int)history.size(); i++)
                        if (i % HISTORY_COLUMNS != HISTORY_COUNT) history[i] = 0;
                const distribution d(history);
                assert_clean(k_importance(nullptr, &d.args));
                for (int t = 0; t < T; t++) {
                    cr_assert_float_eq(d.p(t), 1.0 / T, 3e-10);
                    cr_assert_eq(d.factor[t], 1.0f);
                }
            }
    });
}

/* ---- what enters it ---- */

/* 200 losses of 5 levels in steps of 8, against lists of which the first element goes when there are ten. */
Test(loss_history, keeps_the_last_ten_losses_of_each_level)
{
    enum { T = 5, STEPS = 25, PER_STEP = 8 };
    in_every_order([] {
        std::vector<float> gpu((size_t)T * HISTORY_COLUMNS), cpu(gpu), seen(2 * PER_STEP);
        std::vector<std::vector<float>> kept(T);
        train_state state = {};
        state.sample = 3; /* a step does not begin at a multiple of its size */
        for (int k = 0; k < STEPS; k++) {
            state.clip = k % 6 == 5 ? 0.0f : 0.5f; /* every sixth update is skipped */
            for (int i = 0; i < PER_STEP; i++) {
                const int at = (int)((state.sample + i) % PER_STEP), t = (k * k + i * i) % T;
                const float loss = 1.0f + std::fabs(wobble(k * PER_STEP + i, 1.0f));
                seen[2 * at] = state.clip == 0.0f ? not_a_number : loss, seen[2 * at + 1] = (float)t;
                if (state.clip == 0.0f) continue;
                kept[t].push_back(loss);
                if (kept[t].size() > LOSSES_KEPT) kept[t].erase(kept[t].begin());
            }
            state.sample += PER_STEP;
            const remember_args to_gpu = {seen.data(), &state, gpu.data(), PER_STEP};
            const remember_args to_cpu = {seen.data(), &state, cpu.data(), PER_STEP};
            assert_clean(k_remember(nullptr, &to_gpu));
            remember_lane(&to_cpu, 0, 1);
            assert_same_bits(cpu, gpu);
        }
        for (int t = 0; t < T; t++) {
            std::vector<float> row(gpu.begin() + t * HISTORY_COLUMNS, gpu.begin() + t * HISTORY_COLUMNS + LOSSES_KEPT);
            cr_assert_eq(kept[t].size(), (size_t)LOSSES_KEPT, "the test is too short");
            std::sort(row.begin(), row.end());
            std::sort(kept[t].begin(), kept[t].end());
            assert_same_bits(kept[t], row);
        }
    });
}

/* ---- what the other kernels do with it ---- */

Test(loss_history, draw_tally_and_loss_use_the_factor)
{
    enum { N = 300, PER_STEP = 2 * N, T = training_batch::T };
    in_every_order([] {
        const training_batch batch({N, 1, 1, 1}, false);
        const std::vector<float> factors = history_of(T, 1);
        std::vector<float> rows(batch.rows.size()), time(N), factor(N), level(N), seen(2 * PER_STEP, not_a_number);
        std::vector<float> loss = wobbles(N, 1.0f), error(N, 1.0f);
        draw_args d = {};
        d.table = batch.table.data(), d.state = &batch.state, d.rows = rows.data(), d.t = time.data();
        d.n = N, d.T = T, d.factors = factors.data(), d.factor = factor.data(), d.level = level.data();
        assert_clean(k_draw(nullptr, &d));
        train_state state = batch.state, other = state;
        std::vector<float> seen_on_cpu = seen;
        tally_args a = {loss.data(), error.data(), rows.data(), &state, N, 0.5 / N, N};
        a.factor = factor.data(), a.level = level.data(), a.seen = seen.data(), a.per_step = PER_STEP;
        assert_clean(k_tally(nullptr, &a));
        a.state = &other, a.seen = seen_on_cpu.data();
        tally_one(&a);
        assert_same_bits(seen_on_cpu, seen);
        cr_assert_eq(state.loss_sum, other.loss_sum);
        double sum = 0;
        for (int b = 0; b < N; b++) {
            const int t = batch.t(b), at = (int)((batch.state.sample + b) % PER_STEP);
            cr_assert_eq(level[b], (float)t);
            cr_assert_eq(factor[b], factors[t]);
            cr_assert_eq(seen[2 * at], loss[b]); /* without the factor */
            cr_assert_eq(seen[2 * at + 1], (float)t);
            sum += (double)factors[t] * loss[b];
        }
        cr_assert_float_eq(state.loss_sum, 0.5 * sum / N, 1e-12);
    });
}

Test(loss_history, the_factor_scales_the_gradient_and_not_the_loss)
{
    const shape s = {3, 5, 7, 1};
    const training_batch batch(s, true);
    const std::vector<float> pred = wobbles(s.size(), 2.0f), factor = {0.25f, 1.0f, 4.0f};
    std::vector<float> loss[2], error[2], dpred[2];
    for (int k = 0; k < 2; k++) {
        loss[k].resize(s.n), error[k].resize(s.n), dpred[k].resize(s.size());
        std::vector<double> partial((size_t)s.n * loss_chunks(s.h, s.w, s.c) * LOSS_SUMS);
        loss_args a = {pred.data(),
                       batch.images.data(),
                       batch.rows.data(),
                       &batch.state,
                       loss[k].data(),
                       error[k].data(),
                       dpred[k].data(),
                       partial.data(),
                       s.n,
                       s.h,
                       s.w,
                       s.c,
                       true,
                       0.37f};
        a.factor = k ? factor.data() : nullptr;
        assert_clean(k_loss(nullptr, &a));
    }
    assert_same_bits(loss[0], loss[1]);
    assert_same_bits(error[0], error[1]);
    for (size_t i = 0; i < s.size(); i++) cr_assert_eq(dpred[1][i], dpred[0][i] * factor[i / s.d()]); /* powers of 2 */
}
