#include "kernels/stored.h"
#include "kernels/training_batch.h"
#include "loss.h"

static const float grad_scale = 0.37f;

struct scored {
    std::vector<float> pred, loss, error, dpred;
    std::vector<double> partial;
    loss_args args;
    explicit scored(const training_batch &b)
        : pred(wobbles(b.s.size(), 2.0f)), loss(b.s.n, not_a_number), error(b.s.n, not_a_number),
          dpred(b.s.size(), not_a_number),
          partial((size_t)b.s.n * loss_chunks(b.s.h, b.s.w, b.s.c) * LOSS_SUMS, not_a_number)
    {
        args = {pred.data(),    b.images.data(), b.rows.data(), &b.state, loss.data(), error.data(), dpred.data(),
                partial.data(), b.s.n,           b.s.h,         b.s.w,    b.s.c,       b.flip,       grad_scale};
    }
};

/* Ho et al. 2020, eq. 14, with a weight and a general target, in double. */
Test(loss, follows_the_formula_in_every_thread_order)
{
    in_every_order([] {
        for (const shape &s : shapes) {
            const training_batch batch(s, true);
            scored got(batch);
            assert_clean(k_loss(nullptr, &got.args));
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

Test(loss, backends_agree_to_the_bit)
{
    for (const shape &s : shapes) {
        const training_batch batch(s, true);
        scored gpu(batch), cpu(batch);
        assert_clean(k_loss(nullptr, &gpu.args));
        for (int b = 0; b < s.n; b++) loss_one(&cpu.args, b);
        assert_same_bits(cpu.loss, gpu.loss);
        assert_same_bits(cpu.error, gpu.error);
        assert_same_bits(cpu.dpred, gpu.dpred);
    }
}

Test(loss, the_gradient_may_be_left_out_or_replace_the_prediction)
{
    const training_batch batch({2, 5, 5, 3}, false);
    scored plain(batch), without(batch), in_place(batch);
    without.args.dpred = nullptr;
    in_place.args.dpred = in_place.pred.data();
    for (scored *m : {&plain, &without, &in_place}) assert_clean(k_loss(nullptr, &m->args));
    assert_same_bits(plain.loss, without.loss);
    assert_same_bits(plain.loss, in_place.loss);
    assert_same_bits(plain.dpred, in_place.pred);
    for (float v : without.dpred) cr_assert(std::isnan(v));
}

Test(loss, a_nan_in_one_image_stays_there)
{
    const training_batch batch({3, 4, 4, 1}, false);
    scored m(batch);
    m.pred[20] = not_a_number;
    assert_clean(k_loss(nullptr, &m.args));
    cr_assert(std::isfinite(m.loss[0]) && std::isnan(m.loss[1]) && std::isfinite(m.loss[2]));
}

Test(loss, bf16_predictions_get_bf16_gradients)
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
            for (scored *m : {&plain, &rounded, &in_place}) assert_clean(k_loss(nullptr, &m->args));
            assert_same_bits(plain.loss, rounded.loss);
            assert_same_bits(plain.loss, in_place.loss);
            for (size_t i = 0; i < s.size(); i++) cr_assert_eq(dpred[i], nearest_bf16(plain.dpred[i]));
            assert_same_bits(dpred.bytes, both.bytes);
        }
    });
}

Test(loss, images_come_from_the_data_set_by_index)
{
    const training_batch set({5, 3, 5, 3}, true);
    const std::vector<int64_t> index = {4, 0, 3, 0};
    const training_batch picked = set.picked(index);
    scored whole(picked), gpu(picked), cpu(picked);
    gpu.args.images = cpu.args.images = set.images.data();
    gpu.args.index = cpu.args.index = index.data();
    assert_clean(k_loss(nullptr, &whole.args));
    assert_clean(k_loss(nullptr, &gpu.args));
    for (int b = 0; b < 4; b++) loss_one(&cpu.args, b);
    assert_same_bits(whole.dpred, gpu.dpred);
    assert_same_bits(whole.dpred, cpu.dpred);
    assert_same_bits(whole.loss, gpu.loss);
}

/* torch.nn.functional.huber_loss, smooth_l1_loss and l1_loss, and a Charbonnier loss, in double. */
static double exact_loss(loss_kind kind, double c, double r, double *slope)
{
    const double size = fabs(r), sign = r > 0 ? 1 : r < 0 ? -1 : 0;
    const bool near = size < c;
    switch (kind) {
    case LOSS_L1: *slope = sign; return size;
    case LOSS_HUBER: *slope = near ? r : c * sign; return near ? r * r / 2 : c * (size - c / 2);
    case LOSS_SMOOTH_L1: *slope = near ? r / c : sign; return near ? r * r / 2 / c : size - c / 2;
    case LOSS_PSEUDO_HUBER: *slope = r / sqrt(r * r + c * c); return sqrt(r * r + c * c) - c;
    case LOSS_L2: break;
    }
    *slope = 2 * r;
    return r * r;
}

/* Sums over these r by PyTorch in double: huber 0.4125, smooth_l1 4.125; the pseudo-Huber slopes are the formula's. */
Test(loss, losses_have_the_values_of_pytorch)
{
    const float r[] = {-2.0f, -0.5f, -0.05f, 0.0f, 0.05f, 0.3f, 1.5f}, c = 0.1f;
    const double slope[] = {-.998752, -.980581, -.447214, 0, .447214, .948683, .997785};
    double huber = 0, smooth = 0, pseudo = 0;
    for (int i = 0; i < 7; i++) {
        huber += loss_cost_of(LOSS_HUBER, c, r[i]).value;
        smooth += loss_cost_of(LOSS_SMOOTH_L1, c, r[i]).value;
        pseudo += loss_cost_of(LOSS_PSEUDO_HUBER, c, r[i]).value;
        cr_assert_float_eq(loss_cost_of(LOSS_PSEUDO_HUBER, c, r[i]).slope, slope[i], 1e-6);
        cr_assert_float_eq(loss_cost_of(LOSS_SMOOTH_L1, c, r[i]).slope, fmax(-1, fmin(1, r[i] / 0.1)), 1e-6);
        cr_assert_float_eq(loss_cost_of(LOSS_HUBER, c, r[i]).slope, fmax(-0.1, fmin(0.1, r[i])), 1e-7);
    }
    cr_assert_float_eq(huber, 0.4125, 1e-6);
    cr_assert_float_eq(smooth, 4.125, 1e-5);
    cr_assert_float_eq(pseudo, 3.9555645924, 1e-6);
    cr_assert_eq(loss_cost_of(LOSS_L1, c, 0.0f).slope, 0.0f);
    for (loss_kind kind : {LOSS_L1, LOSS_HUBER, LOSS_SMOOTH_L1, LOSS_PSEUDO_HUBER})
        cr_assert(std::isnan(loss_cost_of(kind, c, not_a_number).slope) &&
                      std::isnan(loss_cost_of(kind, c, not_a_number).value),
                  "%d", (int)kind);
}

Test(loss, every_loss_follows_its_formula_in_every_thread_order)
{
    in_every_order([] {
        for (loss_kind kind : {LOSS_L2, LOSS_L1, LOSS_HUBER, LOSS_SMOOTH_L1, LOSS_PSEUDO_HUBER})
            for (const shape &s : shapes) {
                const training_batch batch(s, true);
                scored got(batch), cpu(batch);
                got.args.kind = cpu.args.kind = kind;
                assert_clean(k_loss(nullptr, &got.args));
                for (int b = 0; b < s.n; b++) {
                    const double weight = batch.column(b, TABLE_WEIGHT), c = batch.column(b, TABLE_HUBER);
                    double error = 0, loss = 0;
                    for (int i = 0; i < s.d(); i++) {
                        double slope;
                        const double miss =
                            got.pred[(size_t)b * s.d() + i] - (batch.column(b, TABLE_TARGET_X0) * batch.x0(b, i) +
                                                               batch.column(b, TABLE_TARGET_EPS) * batch.eps(b, i));
                        error += miss * miss / s.d();
                        loss += weight * exact_loss(kind, c, miss, &slope) / s.d();
                        cr_assert_float_eq(got.dpred[(size_t)b * s.d() + i], grad_scale * weight * slope, 3e-6);
                    }
                    cr_assert_float_eq(got.error[b], error, 1e-6 * error + 1e-7);
                    cr_assert_float_eq(got.loss[b], loss, 2e-6 * loss + 1e-7);
                    loss_one(&cpu.args, b);
                }
                assert_same_bits(cpu.loss, got.loss);
                assert_same_bits(cpu.error, got.error);
                assert_same_bits(cpu.dpred, got.dpred);
            }
    });
}

/* The target's noise is shifted as that of x_t is. */
Test(loss, the_target_has_the_offset_of_each_channel)
{
    for (const shape &s : shapes) {
        const training_batch batch(s, true);
        scored gpu(batch), cpu(batch);
        gpu.args.noise_offset = cpu.args.noise_offset = 0.3f;
        assert_clean(k_loss(nullptr, &gpu.args));
        for (int b = 0; b < s.n; b++) {
            const double weight = batch.column(b, TABLE_WEIGHT), te = batch.column(b, TABLE_TARGET_EPS);
            for (int i = 0; i < s.d(); i++) {
                const double eps = batch.eps(b, i) + (double)0.3f * batch.offset(b, i % s.c);
                const double miss =
                    gpu.pred[(size_t)b * s.d() + i] - (batch.column(b, TABLE_TARGET_X0) * batch.x0(b, i) + te * eps);
                cr_assert_float_eq(gpu.dpred[(size_t)b * s.d() + i], grad_scale * 2 * weight * miss, 3e-6);
            }
            loss_one(&cpu.args, b);
        }
        assert_same_bits(cpu.dpred, gpu.dpred);
        assert_same_bits(cpu.loss, gpu.loss);
    }
}

/* A network that learns the variance: [n, h, w, 2c], by the plain or the whole bound. */
struct learned {
    training_batch batch;
    std::vector<float> pred, loss, error, vb, dpred;
    std::vector<double> partial;
    loss_args args;
    learned(const shape &s, int kl)
        : batch(s, true), pred(wobbles(2 * s.size(), 1.5f)), loss(s.n, not_a_number), error(s.n, not_a_number),
          vb(s.n, not_a_number), dpred(2 * s.size(), not_a_number),
          partial((size_t)s.n * loss_chunks(s.h, s.w, s.c) * LOSS_SUMS, not_a_number)
    {
        for (int b = 0; b < s.n; b++) batch.rows[b * TABLE_COLUMNS + TABLE_DECODER] = (float)(b % 2);
        args = {};
        args.pred = pred.data(), args.images = batch.images.data(), args.rows = batch.rows.data();
        args.state = &batch.state, args.loss = loss.data(), args.error = error.data(), args.dpred = dpred.data();
        args.partial = partial.data(), args.n = s.n, args.h = s.h, args.w = s.w, args.c = s.c, args.flip = 1;
        args.grad_scale = grad_scale, args.learned = 1, args.kl = kl, args.bound = 0.8, args.vb = vb.data();
    }
    float row(int b, int column) const { return batch.rows[b * TABLE_COLUMNS + column]; }
    /* Where element i of image b of a part is: the channels of a pixel are F's, then v's. */
    size_t at(int b, int i, int part) const
    {
        const int c = batch.s.c;
        return ((size_t)b * batch.s.h * batch.s.w + i / c) * 2 * c + part * c + i % c;
    }
    /* r * weight_of_x0, and the term of variational_bound.h, whose formulas test_reverse_variance.c checks */
    double miss(int b, int i) const
    {
        return pred[at(b, i, 0)] -
               ((double)row(b, TABLE_TARGET_X0) * batch.x0(b, i) + (double)row(b, TABLE_TARGET_EPS) * batch.eps(b, i));
    }
    double by_miss(int b) const { return -(double)row(b, TABLE_X0_WEIGHT) * row(b, TABLE_C_OUT); }
    bound_term term(int b, int i) const
    {
        const double d = (pred[at(b, i, 1)] + 1.0) / 2 * row(b, TABLE_LOG_SPAN), l = row(b, TABLE_LOG_VARIANCE);
        const double gap = by_miss(b) * miss(b, i);
        return b % 2 ? bound_decoder(batch.x0(b, i), gap, l + d) : bound_between(d, gap, l);
    }
};

Test(loss, a_learned_variance_is_trained_by_the_bound_in_every_thread_order)
{
    in_every_order([] {
        for (int kl : {0, 1})
            for (const shape &s : shapes) {
                learned got(s, kl), cpu(s, kl);
                assert_clean(k_loss(nullptr, &got.args));
                for (int b = 0; b < s.n; b++) {
                    const double weight = got.row(b, TABLE_WEIGHT), scale = grad_scale * 0.8 / log(2.0);
                    double error = 0, bits = 0;
                    for (int i = 0; i < s.d(); i++) {
                        const double miss = got.miss(b, i);
                        const bound_term term = got.term(b, i);
                        error += miss * miss / s.d();
                        bits += term.nats / log(2.0) / s.d();
                        const double dF = kl ? scale * term.by_gap * got.by_miss(b) : grad_scale * 2 * weight * miss;
                        const double dv = scale * term.by_log_variance * got.row(b, TABLE_LOG_SPAN) / 2;
                        cr_assert_float_eq(got.dpred[got.at(b, i, 0)], dF, 3e-6 * (1 + fabs(dF)), "kl %d, %d", kl, i);
                        cr_assert_float_eq(got.dpred[got.at(b, i, 1)], dv, 3e-6 * (1 + fabs(dv)), "kl %d, %d", kl, i);
                    }
                    const double loss = (kl ? 0 : weight * error) + 0.8 * bits;
                    cr_assert_float_eq(got.error[b], error, 1e-6 * error);
                    cr_assert_float_eq(got.vb[b], bits, 1e-6 * bits);
                    cr_assert_float_eq(got.loss[b], loss, 1e-6 * loss);
                    loss_one(&cpu.args, b);
                }
                assert_same_bits(cpu.loss, got.loss);
                assert_same_bits(cpu.vb, got.vb);
                assert_same_bits(cpu.error, got.error);
                assert_same_bits(cpu.dpred, got.dpred);
            }
    });
}

Test(loss, a_learned_variance_in_bf16_and_in_place)
{
    for (int kl : {0, 1})
        for (const shape &s : shapes) {
            learned plain(s, kl), rounded(s, kl), in_place(s, kl);
            stored pred(plain.pred, STORE_BF16), dpred(2 * s.size(), STORE_BF16), both = pred;
            plain.pred = pred.floats();
            plain.args.pred = plain.pred.data();
            rounded.args.pred = pred.data(), rounded.args.dpred = dpred.data();
            in_place.args.pred = in_place.args.dpred = both.data();
            rounded.args.pred_type = in_place.args.pred_type = STORE_BF16;
            for (learned *m : {&plain, &rounded, &in_place}) assert_clean(k_loss(nullptr, &m->args));
            assert_same_bits(plain.loss, rounded.loss);
            assert_same_bits(plain.vb, in_place.vb);
            for (size_t i = 0; i < 2 * s.size(); i++) cr_assert_eq(dpred[i], nearest_bf16(plain.dpred[i]));
            assert_same_bits(dpred.bytes, both.bytes);
        }
}
