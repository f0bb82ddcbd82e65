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

/* 20 steps of clip_grad_norm_, AdamW, a cosine schedule and EMAModel. */
Test(update, twenty_steps_agree_with_pytorch)
{
    in_every_order([] {
        enum { N = FIXTURE_COUNT };
        train_state state = fresh();
        std::vector<float> w(fixture_start, fixture_start + N), ema = w, m(N), v(N), g(N);
        double partial;
        const update_args update = {fixture_lr,    fixture_beta1, fixture_beta2,
                                    fixture_clip,  fixture_ema,   FIXTURE_WARMUP,
                                    FIXTURE_TOTAL, LR_COSINE,     1};
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

Test(update, schedules_agree_with_diffusers)
{
    for (int schedule = 0; schedule < LR_SCHEDULES; schedule++) {
        const update_args a = {1.0, 0.9, 0.99, 0.0, 0.0, 4, 12, schedule, 0};
        for (uint64_t step = 0; step <= 12; step++)
            cr_assert_float_eq(lr_at(&a, step), fixture_schedule[schedule][step], 1e-7, "%d step %d", schedule,
                               (int)step);
    }
}

Test(update, schedules_end_well)
{
    for (int schedule : {LR_LINEAR, LR_COSINE}) {
        const update_args a = {1.0, 0.9, 0.99, 0.0, 0.0, 4, 12, schedule, 0},
                          no_warmup = {1.0, 0.9, 0.99, 0, 0, 0, 12, schedule, 0};
        const update_args all_warmup = {1.0, 0.9, 0.99, 0.0, 0.0, 12, 12, schedule, 0};
        cr_assert_eq(lr_at(&a, 1000), 0.0);
        cr_assert_float_eq(lr_at(&no_warmup, 0), 1.0, 1e-15);
        cr_assert_eq(lr_at(&all_warmup, 6), 0.5);
        cr_assert_eq(lr_at(&all_warmup, 12), 0.0);
    }
}

Test(update, the_cosine_is_the_cosine)
{
    for (int i = 0; i <= 1000; i++)
        cr_assert_float_eq(cosine_decay(i / 1000.0), 0.5 * (1 + cos(M_PI * i / 1000.0)), 1e-15);
}

Test(update, scalars_follow_adam_after_many_steps)
{
    train_state s = fresh();
    const update_args a = {0.25, 0.9, 0.999, 0.0, 0.9999, 0, 0, LR_CONSTANT, 0};
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
    const update_args a = {0.25, 0.9, 0.999, 1.0, 0.9, 0, 0, LR_CONSTANT, 1};
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
    const update_args a = {0.25, 0.9, 0.999, 1e-20, 0.9, 0, 0, LR_CONSTANT, 0};
    train_state s = fresh();
    train_state_update(&s, 1e70, &a);
    cr_assert(s.clip > 0.0f && s.updates == 1);
}

/* A step's errors by noise level count when the step does. */
Test(update, a_step_is_added_to_the_interval_unless_it_is_skipped)
{
    update_args a = {};
    train_state s = {};
    a.lr = 1, a.beta1 = 0.9, a.beta2 = 0.99;
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
