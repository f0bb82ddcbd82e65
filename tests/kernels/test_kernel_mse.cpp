#include "kernels/stored.h"
#include "kernels/training_batch.h"
#include "mse.h"

static const float grad_scale = 0.37f;

struct scored {
    std::vector<float> pred, loss, error, dpred;
    std::vector<double> partial;
    mse_args args;
    explicit scored(const training_batch &b)
        : pred(wobbles(b.s.size(), 2.0f)), loss(b.s.n, not_a_number), error(b.s.n, not_a_number),
          dpred(b.s.size(), not_a_number), partial((size_t)b.s.n * mse_chunks(b.s.h, b.s.w, b.s.c), not_a_number)
    {
        args = {pred.data(),    b.images.data(), b.rows.data(), &b.state, loss.data(), error.data(), dpred.data(),
                partial.data(), b.s.n,           b.s.h,         b.s.w,    b.s.c,       b.flip,       grad_scale};
    }
};

/* Ho et al. 2020, eq. 14, with a weight and a general target, in double. */
Test(mse, follows_the_formula_in_every_thread_order)
{
    in_every_order([] {
        for (const shape &s : shapes) {
            const training_batch batch(s, true);
            scored got(batch);
            assert_clean(k_mse(nullptr, &got.args));
            for (int b = 0; b < s.n; b++) {
                const double weight = batch.column(b, TABLE_WEIGHT);
                double sum = 0;
                for (int i = 0; i < s.d(); i++) {
                    const double miss =
                        got.pred[(size_t)b * s.d() + i] - (batch.column(b, TABLE_TARGET_X0) * batch.x0(b, i) +
                                                           batch.column(b, TABLE_TARGET_EPS) * batch.eps(b, i));
                    sum += miss * miss;
                    cr_assert_float_eq(got.dpred[(size_t)b * s.d() + i], grad_scale * 2 * weight * miss, 2e-6);
                }
                const double error = sum / s.d(), loss = weight * error;
                cr_assert_float_eq(got.error[b], error, 1e-6 * error + 1e-7, "image %d", b);
                cr_assert_float_eq(got.loss[b], loss, 1e-6 * loss + 1e-7, "image %d", b);
            }
        }
    });
}

Test(mse, backends_agree_to_the_bit)
{
    for (const shape &s : shapes) {
        const training_batch batch(s, true);
        scored gpu(batch), cpu(batch);
        assert_clean(k_mse(nullptr, &gpu.args));
        for (int b = 0; b < s.n; b++) mse_one(&cpu.args, b);
        assert_same_bits(cpu.loss, gpu.loss);
        assert_same_bits(cpu.error, gpu.error);
        assert_same_bits(cpu.dpred, gpu.dpred);
    }
}

Test(mse, the_gradient_may_be_left_out_or_replace_the_prediction)
{
    const training_batch batch({2, 5, 5, 3}, false);
    scored plain(batch), without(batch), in_place(batch);
    without.args.dpred = nullptr;
    in_place.args.dpred = in_place.pred.data();
    for (scored *m : {&plain, &without, &in_place}) assert_clean(k_mse(nullptr, &m->args));
    assert_same_bits(plain.loss, without.loss);
    assert_same_bits(plain.loss, in_place.loss);
    assert_same_bits(plain.dpred, in_place.pred);
    for (float v : without.dpred) cr_assert(std::isnan(v));
}

Test(mse, a_nan_in_one_image_stays_there)
{
    const training_batch batch({3, 4, 4, 1}, false);
    scored m(batch);
    m.pred[20] = not_a_number;
    assert_clean(k_mse(nullptr, &m.args));
    cr_assert(std::isfinite(m.loss[0]) && std::isnan(m.loss[1]) && std::isfinite(m.loss[2]));
}

Test(mse, bf16_predictions_get_bf16_gradients)
{
    in_every_order([] {
        for (const shape &s : shapes) {
            const training_batch batch(s, true);
            scored plain(batch), rounded(batch), in_place(batch);
            stored pred(plain.pred, STORE_BF16), dpred(s.size(), STORE_BF16), both = pred;
            plain.pred = pred.floats();
            plain.args.pred = plain.pred.data();
            rounded.args.pred = pred.data(), rounded.args.dpred = dpred.data();
            in_place.args.pred = in_place.args.dpred = both.data();
            rounded.args.pred_type = in_place.args.pred_type = STORE_BF16;
            for (scored *m : {&plain, &rounded, &in_place}) assert_clean(k_mse(nullptr, &m->args));
            assert_same_bits(plain.loss, rounded.loss);
            assert_same_bits(plain.loss, in_place.loss);
            for (size_t i = 0; i < s.size(); i++) cr_assert_eq(dpred[i], nearest_bf16(plain.dpred[i]));
            assert_same_bits(dpred.bytes, both.bytes);
        }
    });
}

Test(mse, images_come_from_the_data_set_by_index)
{
    const training_batch set({5, 3, 5, 3}, true);
    const std::vector<int64_t> index = {4, 0, 3, 0};
    const training_batch picked = set.picked(index);
    scored whole(picked), gpu(picked), cpu(picked);
    gpu.args.images = cpu.args.images = set.images.data();
    gpu.args.index = cpu.args.index = index.data();
    assert_clean(k_mse(nullptr, &whole.args));
    assert_clean(k_mse(nullptr, &gpu.args));
    for (int b = 0; b < 4; b++) mse_one(&cpu.args, b);
    assert_same_bits(whole.dpred, gpu.dpred);
    assert_same_bits(whole.dpred, cpu.dpred);
    assert_same_bits(whole.loss, gpu.loss);
}
