#include "kernels/emulated.h"
#include "grad_sums.h"
#include "kernels/norm_cut.h"
#include <algorithm>

extern "C" {
#include "ref/ref_ops.h" /* its includes are C++ by now */
}

static const double eps = 1e-3;
static const size_t little = 12 * 1024, less = 7 * 1024;

/* Groups of 1, 2, 3, 4, 6, 8, 16, 48 and 64 channels; seams between groups and inside one, of vectors and
 * inside one; a last range that is narrower; one pixel. */
static const shape shapes[] = {{2, 35, 32, 0, 8},  {2, 35, 30, 0, 10},  {2, 1, 33, 0, 33},   {1, 9, 24, 40, 4},
                               {2, 20, 7, 5, 2},   {1, 6, 128, 0, 2},   {2, 40, 96, 96, 32}, {1, 300, 48, 0, 1},
                               {1, 5, 200, 0, 25}, {1, 600, 16, 16, 8}, {3, 2, 2, 1, 1},     {1, 300, 3, 0, 3}};

struct form {
    storage type;
    norm_condition kind;
    int silu;
    size_t shared;
    int shift; /* elements every array begins after an aligned address */
    float dropout;
};

/* The ordinals of images cross 2^32. */
static const train_state state = [] {
    train_state s = {};
    s.seed = 31, s.sample = 0xFFFFFFFFu;
    return s;
}();
enum { LAYER = 2 };

/* An array of exact size as a kernel gets it, and its values in double. */
struct array {
    storage type = STORE_F32;
    size_t count = 0;
    int shift = 0;
    std::vector<float> full;
    std::vector<bf16> half;
    array() {}
    array(storage type_, const std::vector<float> &v, int shift_ = 0) : type(type_), count(v.size()), shift(shift_)
    {
        full.resize(type == STORE_F32 ? count + shift : 0);
        half.resize(type == STORE_F32 ? 0 : count + shift);
        for (size_t i = 0; i < count; i++) store_at(data(), type, (int64_t)i, v[i]);
    }
    void *data()
    {
        if (count == 0) return nullptr;
        return type == STORE_F32 ? (void *)(full.data() + shift) : (void *)(half.data() + shift);
    }
    double operator[](size_t i) { return load_at(data(), type, (int64_t)i); }
    std::vector<double> values()
    {
        std::vector<double> v(count);
        for (size_t i = 0; i < count; i++) v[i] = (*this)[i];
        return v;
    }
};

static std::vector<float> nans(size_t n) { return std::vector<float>(n, not_a_number); }
static std::vector<float> wobbles_from(size_t n, float scale, size_t first, float middle = 0.0f)
{
    std::vector<float> v(n);
    for (size_t i = 0; i < n; i++) v[i] = middle + wobble(i + first, scale);
    return v;
}

/* ---- what is to come out, in double ---- */

struct problem {
    shape s;
    form f;
    array x, x2, cond, gamma, beta, dy;
    int cond_width, cond_ld;
    problem(const shape &s_, const form &f_, float middle = 0.0f) : s(s_), f(f_)
    {
        const size_t pixels = (size_t)s.n * s.hw, c = s.c();
        cond_width = f.kind == NORM_PLAIN ? 0 : (int)c * (f.kind == NORM_ADD ? 1 : 2);
        cond_ld = cond_width ? cond_width + 3 : 0;
        x = array(f.type, wobbles_from(pixels * s.c1, 1.5f, 5, middle), f.shift);
        x2 = array(f.type, wobbles_from(pixels * s.c2, 0.7f, 99, middle), f.shift);
        cond = array(f.type, wobbles_from((size_t)s.n * cond_ld, 0.8f, 3), f.shift);
        gamma = array(STORE_F32, wobbles_from(c, 1.0f, 17, 0.2f));
        beta = array(STORE_F32, wobbles_from(c, 0.6f, 71));
        dy = array(f.type, wobbles_from(pixels * c, 1.2f, 1234), f.shift);
    }
    norm_act_args args()
    {
        norm_act_args a = {};
        a.x = x.data(), a.x2 = x2.data(), a.cond = cond.data(), a.cond_ld = cond_ld;
        a.gamma = (float *)gamma.data(), a.beta = (float *)beta.data();
        a.type = f.type, a.kind = f.kind, a.n = s.n, a.hw = s.hw, a.c1 = s.c1, a.c2 = s.c2, a.groups = s.groups;
        a.silu = f.silu, a.eps = (float)eps;
        a.dropout = dropout_mask_of(f.dropout > 0 ? &state : nullptr, f.dropout, LAYER);
        return a;
    }
    double s_of(int image, int c) { return f.kind == NORM_SCALE_SHIFT ? cond[(size_t)image * cond_ld + c] : 0.0; }
};

static const double float_eps = (float)eps;

struct operands {
    std::vector<double> x, x2, gamma, beta, cond; /* cond without gaps */
    explicit operands(problem &p) : x(p.x.values()), x2(p.x2.values()), gamma(p.gamma.values()), beta(p.beta.values())
    {
        for (int image = 0; image < p.s.n; image++)
            for (int i = 0; i < p.cond_width; i++) cond.push_back(p.cond[(size_t)image * p.cond_ld + i]);
    }
};

static std::vector<double> dropped(const shape &s, const form &f, std::vector<double> v)
{
    if (f.dropout > 0) ref_dropout(s.n, s.hw * s.c(), (double)f.dropout, LAYER, &state, v.data(), v.data());
    return v;
}

static std::vector<double> reference_y(const shape &s, const form &f, const operands &o)
{
    const ref_norm r = {s.n, s.hw, s.c1, s.c2, s.groups, float_eps, f.silu != 0, (int)f.kind};
    std::vector<double> y((size_t)s.n * s.hw * s.c());
    ref_norm_act(&r, o.x.data(), o.x2.data(), o.gamma.data(), o.beta.data(), o.cond.data(), y.data());
    return dropped(s, f, y);
}

struct gradients {
    std::vector<double> x, x2, gamma, beta, cond;
    std::vector<double> mean, rstd; /* [n, groups] */
    /* In bf16 the kernels round dz.  Per element of x and x2: the part of its gradient that dz contributes, and what that
     * rounding may change by way of the means over the group; per element of the others: the sum of the squares of what
     * is added up. */
    std::vector<double> of_dz, of_dz2, of_means, of_means2, gamma_squares, beta_squares, cond_squares;
};

/* One group of one image by the chain rule: dv_j = sum_i dxhat_i (d xhat_i / d v_j), and
 * d xhat_i / d v_j = rstd ((i == j) - 1 / N - xhat_i xhat_j / N). */
static void reference_group(problem &p, const operands &o, const std::vector<double> &dy, int image, int g,
                            gradients *d)
{
    const shape &s = p.s;
    const int c = s.c(), width = c / s.groups, count = s.hw * width;
    std::vector<double> v(count), dxhat(count);
    auto place = [&](int i) { return ((size_t)image * s.hw + i / width) * c + g * width + i % width; };
    double mean = 0, square = 0;
    for (int i = 0; i < count; i++) {
        const int ch = g * width + i % width;
        const size_t pixel = (size_t)image * s.hw + i / width;
        v[i] = ch < s.c1 ? o.x[pixel * s.c1 + ch] : o.x2[pixel * s.c2 + ch - s.c1];
        if (p.f.kind == NORM_ADD) v[i] += o.cond[(size_t)image * c + ch];
        mean += v[i] / count;
    }
    for (double &e : v) square += (e - mean) * (e - mean) / count;
    const double rstd = 1 / sqrt(square + float_eps);
    d->mean[(size_t)image * s.groups + g] = mean, d->rstd[(size_t)image * s.groups + g] = rstd;
    double sum = 0, along = 0, squares = 0;
    for (int i = 0; i < count; i++) {
        const int ch = g * width + i % width;
        const double up = 1 + p.s_of(image, ch), xhat = (v[i] - mean) * rstd, affine = xhat * o.gamma[ch] + o.beta[ch];
        const double shift = p.f.kind == NORM_SCALE_SHIFT ? o.cond[(size_t)image * 2 * c + c + ch] : 0;
        const double z = affine * up + shift, sig = 1 / (1 + exp(-z));
        const double dz = dy[place(i)] * (p.f.silu ? sig + z * sig * (1 - sig) : 1);
        d->gamma[ch] += dz * up * xhat;
        d->beta[ch] += dz * up;
        d->gamma_squares[ch] += dz * up * xhat * dz * up * xhat;
        d->beta_squares[ch] += dz * up * dz * up;
        if (p.f.kind == NORM_SCALE_SHIFT) {
            d->cond_squares[(size_t)image * 2 * c + ch] += dz * affine * dz * affine;
            d->cond_squares[(size_t)image * 2 * c + c + ch] += dz * dz;
            d->cond[(size_t)image * 2 * c + ch] += dz * affine;
            d->cond[(size_t)image * 2 * c + c + ch] += dz;
        }
        dxhat[i] = dz * up * o.gamma[ch];
        sum += dxhat[i], along += dxhat[i] * xhat, squares += dxhat[i] * dxhat[i];
    }
    for (int i = 0; i < count; i++) {
        const int ch = g * width + i % width;
        const size_t pixel = (size_t)image * s.hw + i / width;
        const double dv = rstd * (dxhat[i] - sum / count - (v[i] - mean) * rstd * along / count);
        (ch < s.c1 ? d->x[pixel * s.c1 + ch] : d->x2[pixel * s.c2 + ch - s.c1]) = dv;
        (ch < s.c1 ? d->of_dz[pixel * s.c1 + ch] : d->of_dz2[pixel * s.c2 + ch - s.c1]) = fabs(rstd * dxhat[i]);
        (ch < s.c1 ? d->of_means[pixel * s.c1 + ch] : d->of_means2[pixel * s.c2 + ch - s.c1]) =
            rstd * sqrt(squares) / count * (1 + fabs(v[i] - mean) * rstd);
        if (p.f.kind == NORM_ADD) d->cond[(size_t)image * c + ch] += dv;
    }
}

static gradients reference_gradients(problem &p, const operands &o)
{
    const size_t c = p.s.c(), groups = (size_t)p.s.n * p.s.groups;
    gradients d = {
        std::vector<double>(o.x.size()), std::vector<double>(o.x2.size()),   std::vector<double>(c),
        std::vector<double>(c),          std::vector<double>(o.cond.size()), std::vector<double>(groups),
        std::vector<double>(groups),     std::vector<double>(o.x.size()),    std::vector<double>(o.x2.size()),
        std::vector<double>(o.x.size()), std::vector<double>(o.x2.size()),   std::vector<double>(c),
        std::vector<double>(c),          std::vector<double>(o.cond.size())};
    const std::vector<double> dy = dropped(p.s, p.f, p.dy.values());
    for (int image = 0; image < p.s.n; image++)
        for (int g = 0; g < p.s.groups; g++) reference_group(p, o, dy, image, g, &d);
    return d;
}

/* Within `part` of the largest magnitude (or of what it is made of, 1, where all of that cancels), and of
 * bf16 within half a unit in its last place, 2^-8 of the value. */
static void assert_near(array &got, const std::vector<double> &want, const char *what, double part = 1e-5,
                        double largest = 0.1, const std::vector<double> &more = {})
{
    cr_assert_eq(got.count, want.size(), "%s", what);
    for (double v : want) largest = std::max(largest, fabs(v));
    for (size_t i = 0; i < want.size(); i++) {
        const double most =
            part * largest + (got.type == STORE_BF16 ? fabs(want[i]) * 0x1p-8 : 0.0) + (more.empty() ? 0.0 : more[i]);
        cr_assert(fabs(got[i] - want[i]) <= most, "%s, element %zu: %.9g, not %.9g", what, i, got[i], want[i]);
    }
}

static std::string name_of(const shape &s, const form &f)
{
    char t[160];
    snprintf(t, sizeof t, "[%d, %d, %d + %d] in %d groups, type %d, kind %d, silu %d, %zu bytes, shift %d, dropout %g",
             s.n, s.hw, s.c1, s.c2, s.groups, f.type, f.kind, f.silu, f.shared, f.shift, f.dropout);
    return t;
}

/* ---- forward ---- */

struct forward {
    array y, mean, rstd;
    ddpm_status status;
    explicit forward(problem &p)
        : y(p.f.type, nans((size_t)p.s.n * p.s.hw * p.s.c()), p.f.shift),
          mean(STORE_F32, nans((size_t)p.s.n * p.s.groups)), rstd(STORE_F32, nans((size_t)p.s.n * p.s.groups))
    {
        norm_act_args a = p.args();
        a.y = y.data(), a.mean = (float *)mean.data(), a.rstd = (float *)rstd.data();
        status = k_norm_act_within(nullptr, &a, p.f.shared);
    }
};

static void assert_same(array &a, array &b)
{
    assert_same_bits(a.full, b.full);
    cr_assert_eq(a.half.size(), b.half.size());
    if (a.half.size()) cr_assert_eq(memcmp(a.half.data(), b.half.data(), a.half.size() * sizeof(bf16)), 0);
}

static void check_forward(const shape &s, const form &f)
{
    problem p(s, f);
    const operands o(p);
    const std::string name = name_of(s, f);
    const std::vector<double> y = reference_y(s, f, o);
    const gradients d = reference_gradients(p, o);
    std::vector<forward> got;
    in_every_order([&] {
        got.emplace_back(p);
        cr_assert_eq(got.back().status, DDPM_OK, "%s: %s", name.c_str(), emu::last_error());
    });
    assert_near(got[0].y, y, (name + ": y").c_str());
    assert_near(got[0].mean, d.mean, (name + ": mean").c_str());
    assert_near(got[0].rstd, d.rstd, (name + ": rstd").c_str());
    for (forward &other : got) {
        assert_same(got[0].y, other.y);
        assert_same(got[0].mean, other.mean);
        assert_same(got[0].rstd, other.rstd);
    }
}

static const norm_condition kinds[] = {NORM_PLAIN, NORM_ADD, NORM_SCALE_SHIFT};

Test(norm_act, is_the_formula_in_one_pass)
{
    int i = 0;
    for (const shape &s : shapes)
        for (storage type : types)
            for (norm_condition kind : kinds) {
                check_forward(s, {type, kind, i % 2, all_there_is, 0, i % 5 < 2 ? 0.375f : 0.0f});
                i++;
            }
}

/* Images in chunks; hw above what fits, so the cut below is one too. */
Test(norm_act, is_the_formula_in_chunks)
{
    const shape large[] = {
        {2, 300, 32, 0, 8}, {1, 600, 16, 16, 8}, {2, 259, 7, 5, 2}, {1, 301, 24, 40, 4}, {1, 777, 3, 0, 3}};
    int i = 0;
    for (const shape &s : large)
        for (storage type : types)
            for (norm_condition kind : kinds) {
                check_forward(s, {type, kind, i % 2, i % 3 ? less : little, 0, i % 5 < 2 ? 0.375f : 0.0f});
                i++;
            }
}

Test(norm_act, arrays_may_begin_anywhere)
{
    for (storage type : types)
        for (size_t shared : {all_there_is, little})
            check_forward({1, 300, 32, 16, 6}, {type, NORM_ADD, 1, shared, 1, 0.25f});
}

Test(norm_act, a_slab_may_take_half_of_the_shared_memory)
{
    check_forward({1, 1024, 32, 0, 4}, {STORE_BF16, NORM_ADD, 1, all_there_is, 0});
    check_forward({1, 3, 1024, 0, 1}, {STORE_F32, NORM_PLAIN, 1, all_there_is, 0});
    check_forward({1, 3, 1023, 0, 1}, {STORE_F32, NORM_PLAIN, 1, 48 * 1024, 0});
}

Test(norm_act, a_large_mean_costs_no_digits_of_the_variance)
{
    for (size_t shared : {all_there_is, little}) {
        const shape s = {1, 600, 16, 0, 4};
        problem p(s, {STORE_F32, NORM_PLAIN, 0, shared, 0}, 1000.0f);
        const operands o(p);
        forward got(p);
        assert_clean(got.status);
        assert_near(got.y, reference_y(s, p.f, o), "y", 1e-4);
    }
}

/* With gamma = 0 and beta = 1, y is the mask: of draw i / 8 the low half, of its second four the high half, of word
 * i % 4 at least p 2^16. */
Test(norm_act, drops_a_share_p_and_scales_the_rest)
{
    for (storage type : types)
        for (int channels : {24, 27})
            for (float p : {0.1f, 0.75f}) {
                problem k({2, 400, channels, 0, 1}, {type, NORM_PLAIN, 0, all_there_is, 0, p});
                k.gamma = array(STORE_F32, std::vector<float>(channels, 0.0f));
                k.beta = array(STORE_F32, std::vector<float>(channels, 1.0f));
                forward got(k);
                int dropped = 0, d = 400 * channels;
                assert_clean(got.status);
                for (int i = 0; i < 2 * d; i++) {
                    const int of = i % d;
                    const philox4 r = noise_bits(31, NOISE_DROPOUT + LAYER, i < d ? 0xFFFFFFFFu : 0, i >= d, of / 8);
                    const uint32_t bits = of % 8 < 4 ? r.v[of % 4] & 0xFFFF : r.v[of % 4] >> 16;
                    const bool kept = bits >= (uint32_t)floor(p * 65536);
                    cr_assert_float_eq(got.y[i], kept ? 1 / (1.0 - p) : 0, type == STORE_BF16 ? 0x1p-7 : 1e-6);
                    dropped += !kept;
                }
                cr_assert_float_eq(dropped / (2.0 * d), p, 5 * sqrt(p * (1 - p) / (2.0 * d)) + 1e-3);
            }
}

/* ---- backward ---- */

enum { DX, DX2, DGAMMA, DBETA, DCOND, DBIAS, DBIAS2, OUTPUTS };
static const char *const output_names[OUTPUTS] = {"dx", "dx2", "dgamma", "dbeta", "dcond", "dbias", "dbias2"};

struct backward {
    array out[OUTPUTS], before[OUTPUTS];
    std::vector<float> scratch, sums;
    ddpm_status status;
    /* Bit k of `missing`: output k is not wanted; of `adds`: it is added to. */
    backward(problem &p, array &mean, array &rstd, unsigned missing, unsigned adds)
    {
        const size_t pixels = (size_t)p.s.n * p.s.hw, c1 = p.s.c1, c2 = p.s.c2, c = c1 + c2;
        const size_t sizes[OUTPUTS] = {pixels * c1, pixels * c2, c, c, (size_t)p.s.n * p.cond_ld, c1, c2};
        for (int k = 0; k < OUTPUTS; k++) {
            const bool activation = k == DX || k == DX2 || k == DCOND;
            if (missing >> k & 1) continue;
            const bool add = adds >> k & 1;
            out[k] = array(activation ? p.f.type : STORE_F32,
                           add ? wobbles_from(sizes[k], 0.9f, 40 + k) : nans(sizes[k]), activation ? p.f.shift : 0);
            before[k] = out[k];
        }
        norm_act_bwd_args a = {};
        a.f = p.args();
        scratch = nans(norm_act_bwd_scratch(&a) / sizeof(float));
        sums = nans(norm_act_bwd_sums(&a) / sizeof(float));
        a.f.mean = (float *)mean.data(), a.f.rstd = (float *)rstd.data();
        a.dy = p.dy.data(), a.dx = out[DX].data(), a.dx2 = out[DX2].data(), a.add = adds >> DX & 1,
        a.add2 = adds >> DX2 & 1;
        a.dcond = out[DCOND].data(), a.dcond_ld = p.cond_ld, a.add_dcond = adds >> DCOND & 1;
        a.sum_dx = out[DBIAS].count || out[DBIAS2].count;
        a.sums = sums.data(), a.scratch = scratch.data();
        status = k_norm_act_bwd_within(nullptr, &a, p.f.shared);
        if (status != DDPM_OK) return;
        add(p, DGAMMA, NORM_SUM_DGAMMA, 0, adds);
        add(p, DBETA, NORM_SUM_DBETA, 0, adds);
        add(p, DBIAS, NORM_SUM_DX, 0, adds);
        add(p, DBIAS2, NORM_SUM_DX, p.s.c1, adds);
    }
    /* out[k] = the sum over images of the sums `which`, from channel `from` on */
    void add(problem &p, int k, int which, int from, unsigned adds)
    {
        if (out[k].count == 0) return;
        const grad_sum s = {sums.data() + (size_t)which * p.s.c() + from,
                            (float *)out[k].data(),
                            p.s.n,
                            (int)out[k].count,
                            NORM_SUMS * p.s.c(),
                            STORE_F32,
                            (int)(adds >> k & 1)};
        status = k_grad_sums(nullptr, &s, 1);
    }
};

/* What output k holds at the end, given what it held. */
static std::vector<double> expected(problem &p, const gradients &d, backward &b, int k)
{
    const size_t c1 = p.s.c1, c2 = p.s.c2;
    std::vector<double> want;
    switch (k) {
    case DX: want = d.x; break;
    case DX2: want = d.x2; break;
    case DGAMMA: want = d.gamma; break;
    case DBETA: want = d.beta; break;
    case DCOND:
        for (size_t i = 0; i < b.out[k].count; i++) {
            const size_t image = i / p.cond_ld, at = i % p.cond_ld;
            want.push_back(at < (size_t)p.cond_width ? d.cond[image * p.cond_width + at] : 0.0);
        }
        break;
    default: { /* sums of all that dx holds */
        const bool second = k == DBIAS2;
        const std::vector<double> &dx = second ? d.x2 : d.x;
        array &old = b.before[second ? DX2 : DX];
        const size_t c = second ? c2 : c1;
        want.assign(c, 0.0);
        for (size_t i = 0; i < dx.size(); i++) want[i % c] += dx[i] + (old.count && !std::isnan(old[i]) ? old[i] : 0.0);
    }
    }
    for (size_t i = 0; i < want.size(); i++)
        if (!std::isnan(b.before[k][i])) want[i] += b.before[k][i];
    return want;
}

/* The gap after each row of dcond stays as it was; leave it out of the comparison that follows. */
static void check_gaps(problem &p, backward &b, std::vector<double> *want)
{
    for (size_t i = 0; i < b.out[DCOND].count; i++) {
        if (i % p.cond_ld < (size_t)p.cond_width) continue;
        const double before = b.before[DCOND][i], after = b.out[DCOND][i];
        cr_assert(before == after || (std::isnan(before) && std::isnan(after)), "dcond: gap %zu", i);
        store_at(b.out[DCOND].data(), p.f.type, (int64_t)i, 0.0f);
        (*want)[i] = 0.0;
    }
}

/* What the rounding of dz to bf16 may change in output k: half a unit in the last place of each dz, and of sums of them
 * four standard deviations. */
static std::vector<double> rounding_of_dz(problem &p, const gradients &d, int k)
{
    const shape &s = p.s;
    const bool second = k == DX2 || k == DBIAS2;
    const double half = 0x1p-8, of_sums = 4 * half / sqrt(3.0);
    const std::vector<double> &of_dz = second ? d.of_dz2 : d.of_dz, &of_means = second ? d.of_means2 : d.of_means;
    std::vector<double> more;
    if (p.f.type != STORE_BF16) return more;
    if (k == DX || k == DX2) {
        for (size_t i = 0; i < of_dz.size(); i++) more.push_back(half * of_dz[i] + of_sums * of_means[i]);
        return more;
    }
    std::vector<double> means(k == DCOND ? (size_t)s.n * p.cond_ld
                              : second   ? s.c2
                                         : s.c1,
                              0.0); /* alike at all pixels */
    if (k == DGAMMA || k == DBETA) more = k == DGAMMA ? d.gamma_squares : d.beta_squares;
    if (k == DBIAS || k == DBIAS2) {
        more.assign(means.size(), 0.0);
        for (size_t i = 0; i < of_dz.size(); i++) {
            more[i % more.size()] += of_dz[i] * of_dz[i];
            means[i % more.size()] += of_means[i];
        }
    }
    if (k == DCOND) more.assign(means.size(), 0.0);
    for (size_t i = 0; k == DCOND && i < more.size(); i++) {
        const size_t image = i / p.cond_ld, c = i % p.cond_ld;
        if (c >= (size_t)p.cond_width) continue;
        if (p.f.kind == NORM_SCALE_SHIFT) more[i] = d.cond_squares[image * p.cond_width + c];
        for (size_t pixel = image * s.hw; p.f.kind == NORM_ADD && pixel < (image + 1) * s.hw; pixel++) {
            const bool first = c < (size_t)s.c1;
            const size_t at = first ? pixel * s.c1 + c : pixel * s.c2 + c - s.c1;
            more[i] += pow(first ? d.of_dz[at] : d.of_dz2[at], 2);
            means[i] += first ? d.of_means[at] : d.of_means2[at];
        }
    }
    for (size_t i = 0; i < more.size(); i++) more[i] = of_sums * (sqrt(more[i]) + (i < means.size() ? means[i] : 0.0));
    return more;
}

static void check_backward(const shape &s, const form &f, unsigned missing, unsigned adds)
{
    problem p(s, f);
    const operands o(p);
    const std::string name = name_of(s, f);
    const gradients d = reference_gradients(p, o);
    std::vector<backward> got;
    array mean(STORE_F32, std::vector<float>(d.mean.begin(), d.mean.end()));
    array rstd(STORE_F32, std::vector<float>(d.rstd.begin(), d.rstd.end()));
    in_every_order([&] {
        got.emplace_back(p, mean, rstd, missing, adds);
        cr_assert_eq(got.back().status, DDPM_OK, "%s: %s", name.c_str(), emu::last_error());
    });
    for (int k = 0; k < OUTPUTS; k++) {
        for (backward &other : got) assert_same(got[0].out[k], other.out[k]);
        if (got[0].out[k].count == 0) continue;
        std::vector<double> want = expected(p, d, got[0], k);
        if (k == DCOND) check_gaps(p, got[0], &want);
        assert_near(got[0].out[k], want, (name + ": " + output_names[k]).c_str(), 1e-5, 1.0, rounding_of_dz(p, d, k));
    }
}

static const unsigned all_add = (1u << OUTPUTS) - 1, some_add = 0x55; /* every other one */

Test(norm_act_bwd, is_the_chain_rule_in_one_pass)
{
    unsigned i = 0;
    for (const shape &s : shapes)
        for (storage type : types)
            for (norm_condition kind : kinds) {
                const unsigned adds[] = {0, all_add, some_add, all_add & ~some_add};
                check_backward(s, {type, kind, (int)(i % 3 > 0), all_there_is, 0, i % 5 < 2 ? 0.375f : 0.0f}, 0,
                               adds[i % 4]);
                i++;
            }
}

Test(norm_act_bwd, is_the_chain_rule_in_chunks)
{
    const shape large[] = {
        {2, 300, 32, 0, 8}, {1, 600, 16, 16, 8}, {2, 259, 7, 5, 2}, {1, 301, 24, 40, 4}, {1, 777, 3, 0, 3}};
    unsigned i = 0;
    for (const shape &s : large)
        for (storage type : types)
            for (norm_condition kind : kinds) {
                const unsigned adds[] = {all_add, 0, all_add & ~some_add, some_add};
                check_backward(s, {type, kind, (int)(i % 3 > 0), little, 0, i % 5 < 2 ? 0.375f : 0.0f}, 0, adds[i % 4]);
                i++;
            }
}

Test(norm_act_bwd, arrays_may_begin_anywhere)
{
    for (storage type : types)
        for (size_t shared : {all_there_is, little})
            check_backward({1, 300, 32, 16, 6}, {type, NORM_ADD, 1, shared, 1, 0.25f}, 0, 0);
}

Test(norm_act_bwd, a_slab_may_take_half_of_the_shared_memory)
{
    check_backward({1, 1024, 16, 0, 2}, {STORE_BF16, NORM_ADD, 1, all_there_is, 0}, 0, all_add);
    check_backward({1, 3, 1024, 0, 1}, {STORE_F32, NORM_PLAIN, 1, all_there_is, 0}, 0, 0);
}

/* Each output left out in turn changes no other. */
Test(norm_act_bwd, outputs_may_be_left_out)
{
    for (norm_condition kind : {NORM_ADD, NORM_SCALE_SHIFT})
        for (size_t shared : {all_there_is, little}) {
            problem p({2, 270, 24, 8, 2}, {STORE_F32, kind, 1, shared, 0});
            const operands o(p);
            const gradients d = reference_gradients(p, o);
            array mean(STORE_F32, std::vector<float>(d.mean.begin(), d.mean.end()));
            array rstd(STORE_F32, std::vector<float>(d.rstd.begin(), d.rstd.end()));
            emu::set_order(emu::order::forward);
            backward all(p, mean, rstd, 0, 0);
            assert_clean(all.status);
            for (unsigned missing = 0; missing <= OUTPUTS; missing++) { /* the last: everything */
                backward some(p, mean, rstd, missing == OUTPUTS ? all_add : 1u << missing, 0);
                assert_clean(some.status);
                for (int k = 0; k < OUTPUTS; k++)
                    if (some.out[k].count && k != DCOND)
                        assert_same(all.out[k], some.out[k]);
                    else if (some.out[k].count)
                        cr_assert_eq(memcmp(all.out[k].data(), some.out[k].data(), p.cond_width * 4), 0);
            }
        }
}

/* The derivative of sum dy y by differences through ref_norm_act, which this file did not write. */
struct slope {
    problem &p;
    operands o;
    double at(std::vector<double> &v, size_t i)
    {
        const double h = 1e-3, was = v[i], factor[4] = {1, -8, 8, -1}, step[4] = {-2, -1, 1, 2};
        double sum = 0;
        for (int k = 0; k < 4; k++) {
            v[i] = was + step[k] * h;
            const std::vector<double> y = reference_y(p.s, p.f, o);
            for (size_t j = 0; j < y.size(); j++) sum += factor[k] * p.dy[j] * y[j];
        }
        v[i] = was;
        return sum / (12 * h);
    }
    void check(std::vector<double> &v, const std::vector<double> &want)
    {
        for (size_t i = 0; i < v.size(); i++) cr_assert_float_eq(at(v, i), want[i], 1e-7);
    }
};

Test(norm_act_bwd, the_chain_rule_of_this_file_is_the_slope_of_the_reference)
{
    for (norm_condition kind : kinds)
        for (int silu : {0, 1}) {
            problem p({2, 5, 4, 2, 2}, {STORE_F32, kind, silu, all_there_is, 0, silu ? 0.25f : 0.0f});
            slope s = {p, operands(p)};
            const gradients d = reference_gradients(p, s.o);
            s.check(s.o.x, d.x);
            s.check(s.o.x2, d.x2);
            s.check(s.o.gamma, d.gamma);
            s.check(s.o.beta, d.beta);
            s.check(s.o.cond, d.cond);
        }
}

/* ---- batches, and what is refused ---- */

/* An image alone and in a batch: more blocks, the same bits. */
Test(norm_act, is_the_same_in_every_batch)
{
    const shape batches[] = {{64, 64, 64, 0, 32}, {40, 16, 96, 96, 32}, {70, 9, 24, 40, 4}, {9, 600, 64, 0, 16}};
    int narrower = 0;
    for (const shape &many : batches)
        for (storage type : types)
            for (size_t shared : {all_there_is, little}) {
                const form f = {type, NORM_ADD, 1, shared, 0, 0.25f};
                shape one = many;
                one.n = 1;
                problem all(many, f), first(one, f);
                forward y(all), y1(first);
                bool fits;
                const norm_cut few = cut_of(one, type, true, shared, &fits),
                               full = cut_of(many, type, true, shared, &fits);
                narrower += few.threads < full.threads;
                for (size_t i = 0; i < y1.y.count; i++) cr_assert_eq(y.y[i], y1.y[i], "element %zu", i);
                backward b(all, y.mean, y.rstd, 0, 0), b1(first, y1.mean, y1.rstd, 0, 0);
                for (int k : {DX, DX2})
                    for (size_t i = 0; i < b1.out[k].count; i++)
                        cr_assert_eq(b.out[k][i], b1.out[k][i], "%s, element %zu", output_names[k], i);
                for (size_t i = 0; i < b1.sums.size(); i++) cr_assert_eq(b.sums[i], b1.sums[i], "sum %zu", i);
            }
    cr_expect_gt(narrower, 2);
}

/* Chunks of four pixels, the shortest whose moments find room in y; shifted by an element, they do not. */
Test(norm_act, moments_stay_within_y)
{
    const shape s = {1, 256, 2, 0, 2};
    const form f = {STORE_BF16, NORM_PLAIN, 1, 864, 0};
    problem shifted(s, {f.type, f.kind, f.silu, f.shared, 1});
    check_forward(s, f);
    cr_assert_eq(forward(shifted).status, DDPM_EINVAL);
}

Test(norm_act, refuses_what_is_no_shape)
{
    problem plain({1, 4, 6, 0, 3}, {STORE_F32, NORM_PLAIN, 1, all_there_is, 0});
    float y[24], mean[3], rstd[3];
    norm_act_args good = plain.args();
    good.y = y, good.mean = mean, good.rstd = rstd;
    emu::set_order(emu::order::forward);
    assert_clean(k_norm_act(nullptr, &good));
    for (int k = 0; k < 9; k++) {
        norm_act_bwd_args b = {};
        b.f = good;
        norm_act_args &a = b.f;
        switch (k) {
        case 0: a.groups = 4; break;
        case 1: a.groups = 0; break;
        case 2: a.n = 0; break;
        case 3: a.hw = 0; break;
        case 4: a.c1 = 2049, a.groups = 1; break;
        case 5: a.c2 = 6; break;
        case 6: a.x2 = y; break;
        case 7: a.kind = NORM_ADD; break;
        case 8: a.cond = y; break;
        }
        cr_assert_eq(k_norm_act(nullptr, &a), DDPM_EINVAL, "case %d", k);
        cr_assert_eq(k_norm_act_bwd(nullptr, &b), DDPM_EINVAL, "case %d, backward", k);
    }
    cr_assert_eq(k_norm_act_within(nullptr, &good, 512), DDPM_EINVAL);
}
