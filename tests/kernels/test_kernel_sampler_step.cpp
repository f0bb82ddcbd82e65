#include "kernels/stored.h"
#include "sampler_init.h"
#include "sampler_limit.h"
#include "sampler_next.h"
#include "sampler_rescale.h"
#include "sampler_step.h"
#include "train_state.h"
#include "update.h"

extern "C" {
#include "ref/ref_ops.h"
}

enum { N = 3, ROWS = 3, ROW = 2 };
struct shape {
    int pixels, c;
};
static const shape shapes[] = {{1, 1}, {3, 1}, {2, 2}, {9, 3}, {342, 3}};

/* t, c_skip, c_out, clip, a, b, e, s, w, p, q, v, slot, guidance, signal, noise */
static const sampler_row everything = {5.0f, 1.3f,  -0.8f, 1.5f, 0.6f, 0.5f, 0.3f, 0.4f, {-0.3f, 0.2f, 0.1f, -0.7f},
                                       0.9f, 0.45f, 0.5f,  2,    1.0f, 0.8f, 0.6f, 0};

enum { LEARNED = 1, GUIDED = 2, MASKED = 4, LIMITED = 8, RESCALED = 16, WATCHED = 32, ALL = 64 };

struct chain {
    shape s;
    int d, kinds;
    std::vector<float> x, model, h[SAMPLER_SLOTS], x0, limit, rescale, image;
    std::vector<uint8_t> mask;
    std::vector<sampler_row> rows;
    std::vector<int64_t> ids{7, 0xFFFFFFFF, 100};
    sampler_state state = {99, ROW, 0};
    sampler_step_args args;
    chain(shape of, sampler_row row, int which = 0)
        : s(of), d(of.pixels * of.c), kinds(which), x(wobbles((size_t)N * d * (which & GUIDED ? 2 : 1), 2.0f)),
          model(wobbles((size_t)N * d * (which & LEARNED ? 2 : 1) * (which & GUIDED ? 2 : 1) + 5, 3.0f)),
          x0((size_t)N * d, not_a_number), limit(N, 1.25f), rescale(N, 0.75f), image(wobbles((size_t)N * d, 1.0f)),
          mask(of.pixels), rows(ROWS)
    {
        model.erase(model.begin(), model.begin() + 5);
        for (int j = 0; j < SAMPLER_SLOTS; j++) {
            h[j] = wobbles((size_t)N * d + j, 1.0f + j);
            h[j].erase(h[j].begin(), h[j].begin() + j);
        }
        for (int i = 0; i < of.pixels; i++) mask[i] = i % 3 != 1;
        limit[1] = 1.0f;
        rows[ROW] = row;
        point();
    }
    void point()
    {
        args = {};
        args.x = x.data();
        args.model = {model.data(), STORE_F32, (kinds & GUIDED) != 0, (kinds & LEARNED) != 0, N, d, s.c, nullptr};
        if (kinds & RESCALED) args.model.rescale = rescale.data();
        for (int j = 0; j < SAMPLER_SLOTS; j++) args.h[j] = h[j].data();
        if (kinds & WATCHED) args.x0 = x0.data();
        if (kinds & LIMITED) args.limit = limit.data();
        if (kinds & MASKED) args.image = image.data(), args.mask = mask.data();
        args.rows = rows.data(), args.state = &state, args.ids = ids.data();
    }
    /* F (part 0) or V (part 1) of an output image, in the images' layout */
    std::vector<double> part(int first, int which) const
    {
        std::vector<double> v((size_t)N * d);
        const int channels = s.c * (kinds & LEARNED ? 2 : 1);
        for (int b = 0; b < N; b++)
            for (int i = 0; i < d; i++)
                v[b * d + i] =
                    (double)model[((size_t)(first + b) * s.pixels + i / s.c) * channels + which * s.c + i % s.c];
        return v;
    }
};

static std::vector<double> doubles(const std::vector<float> &v) { return std::vector<double>(v.begin(), v.end()); }

static void expect_close(const std::vector<float> &got, const std::vector<double> &want, const char *what, int kinds)
{
    for (size_t i = 0; i < want.size(); i++)
        cr_assert(std::fabs((double)got[i] - want[i]) <= 4e-6 * (1 + std::fabs(want[i])),
                  "%s, features %d, %zu: %.9g, not %.9g", what, kinds, i, (double)got[i], want[i]);
}

static void check_against_double(shape s, const sampler_row &row, int kinds)
{
    const chain before(s, row, kinds);
    chain got(s, row, kinds);
    std::vector<double> x = doubles(before.x), h[SAMPLER_SLOTS], x0((size_t)N * before.d),
                        image = doubles(before.image);
    std::vector<double> F = before.part(0, 0), U, V, limit = doubles(before.limit), rescale = doubles(before.rescale);
    ref_sample exact = {};
    if (kinds & GUIDED) U = before.part(N, 0);
    if (kinds & LEARNED) V = before.part(0, 1);
    for (int j = 0; j < SAMPLER_SLOTS; j++) h[j] = doubles(before.h[j]), exact.h[j] = h[j].data();
    exact.x = x.data(), exact.x0 = x0.data(), exact.model = F.data();
    exact.without = kinds & GUIDED ? U.data() : nullptr, exact.variance = kinds & LEARNED ? V.data() : nullptr;
    exact.limit = kinds & LIMITED ? limit.data() : nullptr, exact.rescale = kinds & RESCALED ? rescale.data() : nullptr;
    exact.image = kinds & MASKED ? image.data() : nullptr, exact.mask = kinds & MASKED ? before.mask.data() : nullptr;
    exact.ids = before.ids.data(), exact.seed = 99, exact.row = ROW, exact.n = N, exact.d = before.d, exact.c = s.c;
    ref_sampler_step(&exact, &row);
    assert_clean(k_sampler_step(nullptr, &got.args));
    if (kinds & GUIDED) { /* the second half of x is a copy of the first */
        const std::vector<float> first(got.x.begin(), got.x.begin() + N * before.d);
        assert_same_bits(first, std::vector<float>(got.x.begin() + N * before.d, got.x.end()));
        x.resize((size_t)N * before.d);
    }
    expect_close(got.x, x, "x", kinds);
    if (kinds & WATCHED) expect_close(got.x0, x0, "x0", kinds);
    for (int j = 0; j < SAMPLER_SLOTS; j++) expect_close(got.h[j], h[j], "slot", kinds);
}

static sampler_row row_for(int kinds)
{
    sampler_row row = everything;
    if (!(kinds & LEARNED)) row.v = 0.0f;
    if (kinds & GUIDED) row.guidance = 2.5f;
    return row;
}

Test(sampler_step, follows_the_formula_with_every_set_of_features)
{
    for (int kinds = 0; kinds < ALL; kinds++)
        for (const shape &s : shapes) check_against_double(s, row_for(kinds), kinds);
}

Test(sampler_step, follows_the_formula_in_every_thread_order)
{
    in_every_order([] {
        for (int kinds : {0, ALL - 1}) check_against_double(shapes[4], row_for(kinds), kinds);
    });
}

/* Each coefficient alone, so that no term stands for another. */
Test(sampler_step, every_coefficient_has_its_term)
{
    for (int which = 0; which < 16; which++) {
        sampler_row row = {};
        row.c_skip = 0.7f, row.c_out = -0.4f, row.slot = which % 5 - 1, row.guidance = which % 2 ? 1.0f : 0.5f;
        float *const coefficients[] = {&row.a,    &row.b,    &row.e,    &row.s, &row.w[0],
                                       &row.w[1], &row.w[2], &row.w[3], &row.p, &row.q};
        *coefficients[which % 10] = 0.9f;
        check_against_double(shapes[3], row, GUIDED | WATCHED | (which > 9 ? LEARNED : 0));
    }
}

Test(sampler_step, backends_agree_to_the_bit)
{
    for (int kinds = 0; kinds < ALL; kinds++)
        for (float s : {everything.s, 0.0f}) {
            sampler_row row = row_for(kinds);
            row.s = s;
            chain gpu(shapes[4], row, kinds), cpu(shapes[4], row, kinds);
            assert_clean(k_sampler_step(nullptr, &gpu.args));
            for (int b = 0; b < N; b++) sampler_step_one(&cpu.args, b);
            assert_same_bits(cpu.x, gpu.x);
            assert_same_bits(cpu.x0, gpu.x0);
            for (int j = 0; j < SAMPLER_SLOTS; j++) assert_same_bits(cpu.h[j], gpu.h[j]);
        }
}

/* A first step: the slots hold garbage, or are not there at all. */
Test(sampler_step, terms_of_coefficient_0_are_not_read)
{
    sampler_row first = everything;
    first.s = first.v = 0.0f;
    first.slot = -1;
    for (float &w : first.w) w = 0.0f;
    chain with(shapes[3], first), without(shapes[3], first);
    for (auto &slot : with.h)
        for (float &v : slot) v = not_a_number;
    for (float *&slot : without.args.h) slot = nullptr;
    assert_clean(k_sampler_step(nullptr, &with.args));
    assert_clean(k_sampler_step(nullptr, &without.args));
    for (float v : with.x) cr_assert(std::isfinite(v));
    assert_same_bits(with.x, without.x);
}

/* guidance 1: the half without a label is not read; e = 0: F is not read twice */
Test(sampler_step, guidance_1_is_the_conditional_output)
{
    chain plain(shapes[3], everything), guided(shapes[3], everything, GUIDED);
    plain.rows[ROW].v = guided.rows[ROW].v = 0.0f;
    for (size_t i = plain.model.size(); i < guided.model.size(); i++) guided.model[i] = not_a_number;
    plain.model.assign(guided.model.begin(), guided.model.begin() + N * plain.d);
    plain.x.assign(guided.x.begin(), guided.x.begin() + N * plain.d);
    plain.point();
    assert_clean(k_sampler_step(nullptr, &plain.args));
    assert_clean(k_sampler_step(nullptr, &guided.args));
    guided.x.resize(plain.x.size());
    assert_same_bits(plain.x, guided.x);
}

/* At the last row, level (1, 0), what the mask keeps is the image to the bit. */
Test(sampler_step, what_the_mask_keeps_is_the_image_to_the_bit)
{
    sampler_row last = everything;
    last.signal = 1.0f, last.noise = last.v = 0.0f;
    chain got(shapes[4], last, MASKED);
    assert_clean(k_sampler_step(nullptr, &got.args));
    int kept = 0;
    for (int i = 0; i < N * got.d; i++) {
        if (got.mask[i % got.d / 3]) continue;
        cr_assert_eq(got.x[i], got.image[i]);
        kept++;
    }
    cr_assert_gt(kept, 0);
}

Test(sampler_step, clip_0_does_not_clip_and_nan_is_not_hidden)
{
    sampler_row open = {}, closed;
    open.c_out = open.b = 1.0f, open.slot = -1, open.guidance = 1.0f;
    closed = open;
    closed.clip = 1.0f;
    chain wide(shapes[3], open), narrow(shapes[3], closed);
    wide.model[3] = narrow.model[3] = 50.0f;
    narrow.model[4] = not_a_number;
    assert_clean(k_sampler_step(nullptr, &wide.args));
    assert_clean(k_sampler_step(nullptr, &narrow.args));
    cr_assert_eq(wide.x[3], 50.0f);
    cr_assert_eq(narrow.x[3], 1.0f);
    cr_assert(std::isnan(narrow.x[4]));
}

/* Image 100 alone and as the third of a batch. */
Test(sampler_step, the_noise_belongs_to_the_image)
{
    const sampler_row row = row_for(MASKED);
    chain batch(shapes[3], row, MASKED), alone(shapes[3], row, MASKED);
    sampler_step_args last = alone.args;
    last.model.n = 1;
    last.ids += 2;
    last.x += 2 * 27, last.model.data = &alone.model[2 * 27], last.image += 2 * 27;
    for (float *&slot : last.h) slot += 2 * 27;
    assert_clean(k_sampler_step(nullptr, &batch.args));
    assert_clean(k_sampler_step(nullptr, &last));
    cr_assert_arr_eq(&batch.x[2 * 27], &alone.x[2 * 27], 27 * sizeof(float));
}

Test(sampler_step, the_model_may_answer_in_bf16)
{
    in_every_order([] {
        for (int kinds : {0, LEARNED | GUIDED})
            for (const shape &s : shapes) {
                chain plain(s, row_for(kinds), kinds), rounded(s, row_for(kinds), kinds);
                stored model(plain.model, STORE_BF16, s.pixels == 9);
                plain.model = model.floats();
                plain.args.model.data = plain.model.data();
                rounded.args.model.data = model.data();
                rounded.args.model.type = STORE_BF16;
                assert_clean(k_sampler_step(nullptr, &plain.args));
                assert_clean(k_sampler_step(nullptr, &rounded.args));
                assert_same_bits(plain.x, rounded.x);
                for (int j = 0; j < SAMPLER_SLOTS; j++) assert_same_bits(plain.h[j], rounded.h[j]);
            }
    });
}

/* ---- statistics of an image ---------------------------------------------------------------------- */

static sampler_limit_args limit_args(chain &c, float *limit, double q)
{
    const double place = q * (c.d - 1);
    return {c.x.data(), c.args.model, c.rows.data(), &c.state, limit, (int)place, (float)(place - (int)place)};
}

Test(sampler_limit, is_the_exact_quantile_in_every_thread_order)
{
    in_every_order([] {
        for (const shape &s : shapes)
            for (double q : {0.1, 0.5, 0.9, 0.995, 1.0}) {
                sampler_row row = everything;
                row.clip = 1e6f;
                chain c(s, row);
                for (float &v : c.x) v *= 40.0f; /* most of them above 1 */
                if (s.pixels == 342) /* the order statistic is one of many equal values, or the last of them */
                    for (int i = 0; i < c.d; i++)
                        if (i % 2) c.x[i] = 9.0f, c.model[i] = 2.0f;
                float gpu[N], cpu[N];
                const sampler_limit_args to_gpu = limit_args(c, gpu, q), to_cpu = limit_args(c, cpu, q);
                assert_clean(k_sampler_limit(nullptr, &to_gpu));
                for (int b = 0; b < N; b++) {
                    std::vector<double> v(c.d);
                    for (int i = 0; i < c.d; i++)
                        v[i] = (double)(1.3f * c.x[b * c.d + i] + -0.8f * c.model[b * c.d + i]);
                    const double want = std::fmax(1.0, ref_quantile(v.data(), c.d, q));
                    sampler_limit_one(&to_cpu, b);
                    cr_assert(std::fabs((double)gpu[b] - want) <= 1e-6 * want, "d %d, q %g: %.9g, not %.9g", c.d, q,
                              (double)gpu[b], want);
                    cr_assert_eq(gpu[b], cpu[b]);
                }
            }
    });
}

Test(sampler_limit, is_held_between_1_and_the_rows_clip)
{
    sampler_row row = everything;
    row.clip = 3.0f;
    chain small(shapes[3], row), large(shapes[3], row);
    for (float &v : small.x) v *= 1e-3f;
    for (float &v : small.model) v *= 1e-3f;
    for (float &v : large.x) v = 100.0f;
    float limit[N];
    sampler_limit_args a = limit_args(small, limit, 0.9);
    assert_clean(k_sampler_limit(nullptr, &a));
    for (float v : limit) cr_assert_eq(v, 1.0f);
    a = limit_args(large, limit, 0.9);
    assert_clean(k_sampler_limit(nullptr, &a));
    for (float v : limit) cr_assert_eq(v, 3.0f);
}

Test(sampler_rescale, gives_the_deviation_of_the_conditional_output)
{
    in_every_order([] {
        for (const shape &s : {shapes[3], shapes[4]})
            for (int kinds : {(int)GUIDED, GUIDED | LEARNED}) {
                chain c(s, row_for(kinds), kinds);
                float gpu[N], cpu[N];
                const sampler_rescale_args to_gpu = {c.args.model, c.rows.data(), &c.state, gpu, 0.7f};
                sampler_rescale_args to_cpu = to_gpu;
                to_cpu.factor = cpu;
                assert_clean(k_sampler_rescale(nullptr, &to_gpu));
                const std::vector<double> with = c.part(0, 0), without = c.part(N, 0);
                for (int b = 0; b < N; b++) {
                    std::vector<double> guided(c.d);
                    for (int i = 0; i < c.d; i++)
                        guided[i] = without[b * c.d + i] + 2.5 * (with[b * c.d + i] - without[b * c.d + i]);
                    sampler_rescale_one(&to_cpu, b);
                    cr_assert_float_eq((double)gpu[b], ref_rescale(&with[b * c.d], guided.data(), c.d, (double)0.7f),
                                       1e-6);
                    cr_assert_eq(gpu[b], cpu[b]);
                }
            }
    });
}

Test(sampler_rescale, without_deviation_nothing_is_rescaled)
{
    chain c(shapes[3], row_for(GUIDED), GUIDED);
    for (float &v : c.model) v = 2.0f;
    float factor[N];
    const sampler_rescale_args a = {c.args.model, c.rows.data(), &c.state, factor, 0.7f};
    assert_clean(k_sampler_rescale(nullptr, &a));
    for (float v : factor) cr_assert_eq(v, 1.0f);
}

/* ---- around the step ------------------------------------------------------------------------------ */

Test(sampler_next, tells_each_row_in_turn)
{
    in_every_order([] {
        std::vector<sampler_row> rows(3);
        for (int i = 0; i < 3; i++) rows[i].t = 10.5f - (float)i;
        for (int n : {1, 255, 600}) {
            sampler_state gpu = {1, -1, 0}, cpu = {1, -1, 0};
            std::vector<float> t(n, not_a_number), u(n, not_a_number);
            const sampler_next_args to_gpu = {rows.data(), &gpu, t.data(), n},
                                    to_cpu = {rows.data(), &cpu, u.data(), n};
            for (int row = 0; row < 3; row++) {
                assert_clean(k_sampler_next(nullptr, &to_gpu));
                sampler_next_one(&to_cpu);
                cr_assert(gpu.row == row && cpu.row == row);
                for (float v : t) cr_assert_eq(v, 10.5f - (float)row);
                assert_same_bits(t, u);
            }
        }
    });
}

/* x of both backends, from noise, an image, or both. */
static void check_init(int d, float noise, float signal, int images)
{
    const std::vector<int64_t> ids = {7, 0xFFFFFFFF, 100};
    const sampler_state state = {99, -1, 0};
    const std::vector<float> image = wobbles((size_t)N * d, 1.0f);
    std::vector<float> gpu((size_t)N * d, not_a_number), cpu = gpu;
    sampler_init_args a = {gpu.data(), &state, ids.data(), N, d, noise, images ? image.data() : nullptr,
                           images,     signal};
    assert_clean(k_sampler_init(nullptr, &a));
    a.x = cpu.data();
    for (int b = 0; b < N; b++) sampler_init_one(&a, b);
    assert_same_bits(cpu, gpu);
    for (int b = 0; b < N; b++)
        for (int i = 0; i < d; i++) {
            const double xi = noise_normal4(99, NOISE_SAMPLE_INIT, (uint32_t)ids[b], 0, i / 4).v[i % 4];
            const double from = images ? (double)signal * image[(b % images) * d + i] : 0.0,
                         want = from + (double)noise * xi;
            cr_assert(std::fabs((double)gpu[b * d + i] - want) <= 1e-6 * (1 + std::fabs(want)));
        }
}

Test(sampler_init, is_scaled_noise_of_seed_and_image)
{
    in_every_order([] {
        for (const shape &s : shapes) {
            check_init(s.pixels * s.c, 80.0f, 0.0f, 0);
            check_init(s.pixels * s.c, 0.6f, 0.8f, 3);
            check_init(s.pixels * s.c, 0.6f, 0.8f, 1); /* all start from one image */
            check_init(s.pixels * s.c, 0.0f, 1.0f, 3);
        }
    });
}
