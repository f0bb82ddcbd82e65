#include "bound.h"
#include "kernels/stored.h"
#include "kernels/training_batch.h"

enum { STREAM = NOISE_EVAL };

/* An evaluation of images by index, whose rows lead to the image and to another timestep in turn. */
struct evaluated {
    training_batch set, batch;
    std::vector<int64_t> index;
    std::vector<float> pred, vb, x0_error;
    std::vector<double> partial;
    bound_args args;
    evaluated(const shape &s, int halves, int fixed, float clip)
        : set(s, false), batch(s, false), pred(halves * s.size(), 0.0f), vb(s.n, not_a_number),
          x0_error(s.n, not_a_number), partial((size_t)s.n * loss_chunks(s.h, s.w, s.c) * BOUND_SUMS, not_a_number)
    {
        pred = wobbles(pred.size(), 1.2f);
        for (int b = 0; b < s.n; b++) {
            index.push_back(s.n - 1 - b);
            batch.rows[b * TABLE_COLUMNS + TABLE_DECODER] = (float)(b % 2);
        }
        args = {};
        args.pred = pred.data(), args.images = set.images.data(), args.rows = batch.rows.data();
        args.state = &batch.state, args.index = index.data(), args.stream = STREAM, args.vb = vb.data();
        args.x0_error = x0_error.data(), args.partial = partial.data(), args.n = s.n, args.h = s.h, args.w = s.w;
        args.c = s.c, args.halves = halves, args.fixed = fixed, args.v = 0.25f, args.clip = clip;
    }
    double row(int b, int column) const { return batch.rows[b * TABLE_COLUMNS + column]; }
    double value(int b, int i, int part) const
    {
        const int c = batch.s.c;
        return pred[((size_t)b * batch.s.h * batch.s.w + i / c) * args.halves * c + part * c + i % c];
    }
    double x0(int b, int i) const { return set.images[(size_t)index[b] * batch.s.d() + i] / 127.5 - 1; }
    /* The sums of the paper's formulas, with terms that test_reverse_variance.c checks. */
    void expect(int b, double *bits, double *square) const
    {
        const int d = batch.s.d();
        *bits = *square = 0;
        for (int i = 0; i < d; i++) {
            const double clean = x0(b, i), eps = batch.normal(STREAM, b, i);
            const double miss = value(b, i, 0) - (row(b, TABLE_TARGET_X0) * clean + row(b, TABLE_TARGET_EPS) * eps);
            double x0_hat = clean + row(b, TABLE_C_OUT) * miss;
            if (args.clip > 0) x0_hat = fmax(-args.clip, fmin(args.clip, x0_hat));
            const double v = args.fixed ? args.v : value(b, i, 1), excess = (v + 1) / 2 * row(b, TABLE_LOG_SPAN);
            const double gap = row(b, TABLE_X0_WEIGHT) * (clean - x0_hat), l = row(b, TABLE_LOG_VARIANCE);
            const bound_term term = b % 2 ? bound_decoder(clean, gap, l + excess) : bound_between(excess, gap, l);
            *bits += term.nats / log(2.0) / d;
            *square += (x0_hat - clean) * (x0_hat - clean) / d;
        }
    }
};

Test(bound, follows_the_formula_in_every_thread_order)
{
    in_every_order([] {
        for (const shape &s : shapes)
            for (int way = 0; way < 4; way++) {
                const int halves = way ? 2 : 1, fixed = way < 2;
                evaluated gpu(s, halves, fixed, way % 2 ? 0.9f : 0.0f), cpu(s, halves, fixed, way % 2 ? 0.9f : 0.0f);
                assert_clean(k_bound(nullptr, &gpu.args));
                for (int b = 0; b < s.n; b++) {
                    double bits, square;
                    bound_one(&cpu.args, b);
                    gpu.expect(b, &bits, &square);
                    cr_assert_float_eq(gpu.vb[b], bits, 2e-6 * bits + 1e-7, "way %d, image %d", way, b);
                    cr_assert_float_eq(gpu.x0_error[b], square, 2e-6 * square + 1e-7, "way %d, image %d", way, b);
                }
                assert_same_bits(cpu.vb, gpu.vb);
                assert_same_bits(cpu.x0_error, gpu.x0_error);
            }
    });
}

Test(bound, reads_predictions_in_bf16)
{
    for (const shape &s : shapes) {
        evaluated plain(s, 2, 0, 1.0f), low(s, 2, 0, 1.0f);
        stored pred(plain.pred, STORE_BF16);
        plain.pred = pred.floats();
        plain.args.pred = plain.pred.data();
        low.args.pred = pred.data(), low.args.pred_type = STORE_BF16;
        assert_clean(k_bound(nullptr, &plain.args));
        assert_clean(k_bound(nullptr, &low.args));
        assert_same_bits(plain.vb, low.vb);
        assert_same_bits(plain.x0_error, low.x0_error);
    }
}

Test(bound, a_nan_stays_in_its_image)
{
    const shape s = {3, 4, 4, 1};
    for (int fixed = 0; fixed < 2; fixed++) {
        evaluated e(s, 2, fixed, 1.0f);
        e.pred[2 * s.d() + 6] = not_a_number; /* of image 1: a prediction */
        assert_clean(k_bound(nullptr, &e.args));
        cr_assert(std::isfinite(e.vb[0]) && std::isnan(e.vb[1]) && std::isnan(e.x0_error[1]) && std::isfinite(e.vb[2]));
    }
}
