/* The decisions of a step, against PyTorch and diffusers (update_fixture.h). */
#include "adamw.h"
#include "grad_norm.h"
#include "kernels/emulated.h"
#include "kernels/update_fixture.h"

static train_state fresh()
{
    train_state s = {};
    s.beta1_pow = s.beta2_pow = 1.0;
    return s;
}

/* A schedule with its peak, warm-up and end; clipping; an average. */
static update_args plain(int schedule, double lr, int64_t warmup, int64_t total, double clip, int kind, double decay)
{
    update_args a = {};
    a.lr.peak = lr, a.lr.schedule = schedule, a.lr.warmup_steps = warmup, a.lr.total_steps = total;
    a.beta1 = 0.9, a.beta2 = 0.999, a.max_grad_norm = clip;
    a.ema[0].kind = kind, a.ema[0].decay = decay;
    return a;
}

/* 20 steps of clip_grad_norm_, AdamW, a cosine schedule and EMAModel. */
Test(update, twenty_steps_agree_with_pytorch)
{
    in_every_order([] {
        enum { N = FIXTURE_COUNT };
        train_state state = fresh();
        std::vector<float> w(fixture_start, fixture_start + N), ema = w, m(N), v(N), g(N);
        double partial;
        update_args update =
            plain(LR_COSINE, fixture_lr, FIXTURE_WARMUP, FIXTURE_TOTAL, fixture_clip, EMA_WARMUP, fixture_ema);
        update.beta1 = fixture_beta1, update.beta2 = fixture_beta2;
        const grad_norm_args norm = {g.data(), &partial, &state, nullptr, N, update};
        const adamw_args adam = {w.data(), g.data(),      m.data(),      v.data(),    ema.data(),    &state,
                                 N,        fixture_beta1, fixture_beta2, fixture_eps, fixture_decay, 1};
        for (int step = 0; step < FIXTURE_STEPS; step++) {
            for (int i = 0; i < N; i++) g[i] = fixture_gradient[step][i];
            assert_clean(k_grad_norm(nullptr, &norm));
            assert_clean(k_adamw(nullptr, &adam));
            cr_assert_float_eq(state.lr, fixture_scalars[step][0], 1e-9, "step %d", step);
            cr_assert_float_eq(state.ema_decay, fixture_scalars[step][2], 1e-7, "step %d", step);
            cr_assert_float_eq(state.grad_norm, fixture_scalars[step][1], 3e-7 * state.grad_norm, "step %d", step);
            for (int i = 0; i < N; i++) {
                cr_assert_float_eq(w[i], fixture_w[step][i], 2e-7, "step %d w[%d]", step, i);
                cr_assert_float_eq(ema[i], fixture_ema_w[step][i], 2e-7, "step %d ema[%d]", step, i);
            }
        }
    });
}

Test(update, scalars_follow_adam_after_many_steps)
{
    train_state s = fresh();
    const update_args a = plain(LR_CONSTANT, 0.25, 0, 0, 0, EMA_CONSTANT, 0.9999);
    for (int t = 1; t <= 3000; t++) {
        train_state_update(&s, 1e4, &a);
        cr_assert_float_eq(s.step_size, 0.25 / (1 - pow(0.9, t)), 1e-6);
        cr_assert_float_eq(s.denom_scale, 1 / sqrt(1 - pow(0.999, t)), 1e-6 * s.denom_scale);
    }
    cr_assert_eq(s.clip, 1.0f); /* max_grad_norm = 0 */
    cr_assert_eq(s.ema_decay, 0.9999f);
    cr_assert_eq(s.ema_rate, (float)(1.0 - 0.9999));
    cr_assert_eq(s.step, 3000u);
    cr_assert_eq(s.updates, 3000u);
}

Test(update, a_bad_loss_skips_and_leaves_no_trace)
{
    const update_args a = plain(LR_CONSTANT, 0.25, 0, 0, 1, EMA_WARMUP, 0.9);
    for (double bad : {(double)not_a_number, HUGE_VAL, 1e300}) {
        train_state with = fresh(), without = fresh();
        for (int t = 0; t < 5; t++) {
            with.loss_sum = without.loss_sum = 0.5;
            train_state_update(&without, 4.0, &a);
            train_state_update(&with, 4.0, &a);
            if (t == 2) {
                with.loss_sum = bad;
                train_state_update(&with, 4.0, &a);
                cr_assert_eq(with.clip, 0.0f);
                cr_assert_eq(with.loss_sum, 0.0); /* or the next step would be lost too */
            }
        }
        cr_assert_eq(with.step, 6u);
        cr_assert_eq(with.skipped, 1u);
        with.step = without.step, with.skipped = without.skipped;
        cr_assert_eq(memcmp(&with, &without, sizeof with), 0);
    }
}

Test(update, clip_is_zero_only_when_skipped)
{
    const update_args a = plain(LR_CONSTANT, 0.25, 0, 0, 1e-20, EMA_CONSTANT, 0.9);
    train_state s = fresh();
    train_state_update(&s, 1e70, &a);
    cr_assert(s.clip > 0.0f && s.updates == 1);
}

/* A step's errors by noise level count when the step does. */
Test(update, a_step_is_added_to_the_interval_unless_it_is_skipped)
{
    update_args a = {};
    train_state s = {};
    a.lr.peak = 1, a.beta1 = 0.9, a.beta2 = 0.99;
    s.beta1_pow = s.beta2_pow = 1;
    for (double loss : {2.0, (double)not_a_number, 4.0}) {
        s.loss_sum = loss;
        s.step_error[3] = 5, s.step_images[3] = 2;
        train_state_update(&s, 1.0, &a);
        cr_assert(s.step_error[3] == 0 && s.step_images[3] == 0);
    }
    cr_assert(s.interval_loss == 6 && s.interval_steps == 2);
    cr_assert(s.level_error[3] == 10 && s.level_images[3] == 4 && s.level_error[2] == 0);
}
