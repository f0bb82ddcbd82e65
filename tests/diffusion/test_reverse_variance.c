/* The variational bound of reverse steps: against figures of guided-diffusion's functions and torch's autograd, both in
 * float64, and its slopes against differences.
 *
 * One picture of 8 values, the same eps and network's output at every timestep of the linear schedule. */
#include "base/mem.h"
#include "diffusion/objective.h"
#include "support/ok.h"
#include "variational_bound.h"

#include <criterion/criterion.h>
#include <math.h>

enum { T = 1000, N = 8 };
static const int byte_of[N] = {0, 255, 128, 64, 200, 10, 77, 254};
static const double V[N] = {-1.2, -.9, -.5, 0, .3, .6, 1, 1.4};

static err why;
static schedule *s;

static void make_schedule(void)
{
    const scheduler_config c = scheduler_config_default();
    OK(schedule_create(&c, &s, &why));
}
static void free_schedule(void) { schedule_destroy(s); }
TestSuite(reverse_variance, .init = make_schedule, .fini = free_schedule);

static double x0_of(int i) { return byte_of[i] / 127.5 - 1; }
static double eps_of(int i) { return ((7 * i + 3) % 11 - 5) / 3.0; }
static double F_of(int i) { return .9 * eps_of(i) + .05 * (i - 3.5); }

static reverse_variance variance_at(int t) { return reverse_variance_at(s, t, t - 1, t + 1 < T ? t + 1 : -1); }

/* Element i at timestep t with variance v; *by_F: how the gap depends on F. */
static bound_term term_at(int t, int i, double v, bool clip, double *by_F)
{
    const reverse_variance r = variance_at(t);
    const double c_out = objective_to_x0(s, t).c_out, x0 = x0_of(i), d = bound_range(v, r.log_span);
    double x0_hat = x0 + c_out * (F_of(i) - eps_of(i));
    if (clip) x0_hat = fmin(fmax(x0_hat, -1), 1);
    const double gap = r.x0_weight * (x0 - x0_hat);
    *by_F = -r.x0_weight * c_out;
    return r.decoder ? bound_decoder(x0, gap, r.log_variance + d) : bound_between(d, gap, r.log_variance);
}

/* Bits per dimension; the learned variance, or the same v for all. */
static double vb_at(int t, const double *v, double fixed, bool clip)
{
    double sum = 0, unused;
    for (int i = 0; i < N; i++) sum += term_at(t, i, v ? v[i] : fixed, clip, &unused).nats;
    return sum * BOUND_BITS / N;
}

Test(reverse_variance, bounds_are_those_of_guided_diffusion)
{
    static const struct {
        int t;
        double vb;
    } want[] = {{0, 1.3253366079518378},
                {1, .1011691163164356},
                {10, .006249751666912429},
                {500, 2.0280589681313265e-4},
                {999, 3.75205983289484e-4}};
    for (int k = 0; k < 5; k++) {
        const double got = vb_at(want[k].t, V, 0, false);
        cr_expect_float_eq(got, want[k].vb, 1e-10 * want[k].vb, "t %d: %.12g, not %.12g", want[k].t, got, want[k].vb);
    }
}

/* Of d vb / dv at timestep 999 a float32 table leaves 87 %. */
Test(reverse_variance, slopes_by_v_are_those_of_autograd)
{
    static const struct {
        int t;
        double by_v[N];
    } want[] = {
        {0,
         {.006106045639, .008005548995, .024763960333, .025304550852, .025293254374, .025631594922, .024312856273,
          .025989603632}},
        {1,
         {-.003454107446, -.002112137707, .005942384818, .011408421852, .013941430282, .016486686686, .018079099048,
          .021634886312}},
        {10,
         {-1.096909901777e-4, -3.990635584922e-5, 2.252668959838e-4, 4.60152382055e-4, 5.87644469138e-4,
          7.238247424476e-4, 8.382636751139e-4, 1.057853703962e-3}},
        {500,
         {-8.321602595727e-9, -3.461803065353e-8, 3.285840186542e-9, 1.417968831179e-8, 1.654722332259e-8,
          2.41233496028e-8, 4.712698773497e-9, 3.737758548603e-8}},
        {999,
         {-8.897631187e-12, -6.447095581e-11, -8.886923254e-12, -4.24778365e-12, -8.874685634e-12, -4.238606573e-12,
          -5.054738035e-11, -4.226370474e-12}},
    };
    for (int k = 0; k < 5; k++)
        for (int i = 0; i < N; i++) {
            double unused;
            const double span = variance_at(want[k].t).log_span;
            const double got = term_at(want[k].t, i, V[i], false, &unused).by_log_variance * span / 2 * BOUND_BITS / N;
            cr_expect_float_eq(got, want[k].by_v[i], 1e-7 * fabs(want[k].by_v[i]), "t %d, %d: %.12g, not %.12g",
                               want[k].t, i, got, want[k].by_v[i]);
        }
}

Test(reverse_variance, slopes_by_the_prediction_are_those_of_autograd)
{
    static const struct {
        int t;
        double by_F[3];
    } want[] = {{0, {-141.923190500825, 77.227369826907, -28.465249016026}},
                {1, {-25.352112909093, -60.646077901771, -19.241097935515}},
                {999, {-.39872043956, -1.073477973879, -.398720324615}}};
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < 3; i++) {
            double by_F;
            const bound_term term = term_at(want[k].t, i, V[i], false, &by_F);
            const double got = T * term.by_gap * by_F * BOUND_BITS / N;
            cr_expect_float_eq(got, want[k].by_F[i], 1e-8 * fabs(want[k].by_F[i]), "t %d, %d: %.12g", want[k].t, i,
                               got);
        }
}

Test(reverse_variance, the_table_is_that_of_the_paper)
{
    static const int at[] = {0, 1, 2, 500, 999};
    static const double logs[] = {-9.816725135296, -9.816725135296, -9.367121497367, -4.600049739985, -3.9120238291};
    static const int spans_at[] = {0, 1, 500, 999};
    static const double spans[] = {.606384763, .788038763, 8.57645543e-4, 8.23672e-7};
    objective o = objective_default();
    float *table;
    o.learned = true;
    OK(mem_array(&table, (size_t)T * TABLE_COLUMNS, sizeof *table, "test", &why));
    objective_fill_table(s, &o, table);
    for (int k = 0; k < 5; k++) {
        cr_expect_float_eq(variance_at(at[k]).log_variance, logs[k], 1e-11);
        cr_expect_eq(table[at[k] * TABLE_COLUMNS + TABLE_LOG_VARIANCE], (float)variance_at(at[k]).log_variance);
        cr_expect_eq(table[at[k] * TABLE_COLUMNS + TABLE_DECODER], at[k] == 0);
    }
    for (int k = 0; k < 4; k++) {
        const double got = (double)table[spans_at[k] * TABLE_COLUMNS + TABLE_LOG_SPAN];
        cr_expect_float_eq(got, spans[k], 4e-7 * spans[k], "t %d: %.9g", spans_at[k], got);
    }
    mem_free(table);
}

/* calc_bpd_loop of improved-diffusion: all timesteps and the prior, with clip_denoised off and on.  fixed_large has the
 * posterior's variance in the step to the image. */
Test(reverse_variance, totals_are_those_of_improved_diffusion)
{
    const double n2 = 1 - s->abar[T - 1], s2 = s->abar[T - 1];
    double prior = 0;
    for (int i = 0; i < N; i++) prior += (-1 - log(n2) + n2 + s2 * x0_of(i) * x0_of(i)) / 2 / log(2) / N;
    cr_expect_float_eq(prior, 1.660168294145011e-05, 1e-14);
    static const struct {
        const double *v;
        double fixed, last; /* v of all steps, and of that to the image */
        double want[2];
    } types[] = {{V, 0, 0, {1.9196781275486547, 1.7238467587825337}},
                 {NULL, -1, -1, {1.482365595955619, 1.285836245271767}},
                 {NULL, 1, -1, {1.939020725673929, 1.7549188631026755}}};
    for (int k = 0; k < 3; k++)
        for (int clip = 0; clip < 2; clip++) {
            double total = prior + vb_at(0, types[k].v, types[k].last, clip);
            for (int t = 1; t < T; t++) total += vb_at(t, types[k].v, types[k].fixed, clip);
            cr_expect_float_eq(total, types[k].want[clip], 1e-9, "type %d, clip %d: %.12g", k, clip, total);
        }
}

static double nats_at(bool decoder, double x0, double gap, double log_variance, double base)
{
    return decoder ? bound_decoder(x0, gap, log_variance).nats : bound_between(log_variance - base, gap, base).nats;
}

/* Four-point differences; the tails, both open ends, and variances far from the posterior's. */
Test(reverse_variance, slopes_are_those_of_differences)
{
    static const double x0s[] = {-1, -.5, 0, 127 / 127.5 - 1, 1}, gaps[] = {-.03, -.004, 0, 1e-5, .002, .05};
    static const double h = 1e-4;
    for (int decoder = 0; decoder < 2; decoder++)
        for (int a = 0; a < 5; a++)
            for (int b = 0; b < 6; b++)
                for (double l = -12; l < 2; l += 0.7) {
                    const double base = -9, x0 = x0s[a], gap = gaps[b], step = h * exp(l / 2);
                    const bound_term got = decoder ? bound_decoder(x0, gap, l) : bound_between(l - base, gap, base);
                    double by_l = 0, by_gap = 0;
                    static const double at[] = {-2, -1, 1, 2}, weight[] = {1, -8, 8, -1};
                    for (int k = 0; k < 4; k++) {
                        by_l += weight[k] * nats_at(decoder, x0, gap, l + at[k] * h, base) / (12 * h);
                        by_gap += weight[k] * nats_at(decoder, x0, gap + at[k] * step, l, base) / (12 * step);
                    }
                    const double large = got.nats > 27 ? 1e9 : 1; /* where the bound begins to be cut off */
                    cr_expect_float_eq(got.by_log_variance, by_l, large * (1e-8 + 1e-8 * fabs(by_l)),
                                       "%d, x0 %g, gap %g, l %g: %.12g, not %.12g", decoder, x0, gap, l,
                                       got.by_log_variance, by_l);
                    cr_expect_float_eq(got.by_gap * step, by_gap * step, large * (1e-11 + 1e-8 * fabs(by_gap * step)),
                                       "%d, x0 %g, gap %g, l %g: by gap %.12g, not %.12g", decoder, x0, gap, l,
                                       got.by_gap, by_gap);
                }
}

/* The approximation of the normal distribution with tanh, as published figures have it; erf's would be 1.8e-4 away. */
Test(reverse_variance, the_decoder_is_the_difference_of_two_tanh)
{
    for (double gap = -.02; gap <= .02; gap += .00037)
        for (double l = -10; l < -6; l += .9) {
            double cdf[2];
            for (int k = 0; k < 2; k++) {
                const double a = exp(-l / 2) * (gap + (k ? 1 : -1) / 255.0);
                cdf[k] = (1 + tanh(sqrt(2 / M_PI) * (a + .044715 * a * a * a))) / 2;
            }
            const double P = cdf[1] - cdf[0];
            if (P > 1e-5) cr_expect_float_eq(bound_decoder(.1, gap, l).nats, -log(P), 1e-10, "gap %g, l %g", gap, l);
            if (cdf[1] > 1e-5) cr_expect_float_eq(bound_decoder(-1, gap, l).nats, -log(cdf[1]), 1e-10);
            if (cdf[0] < 1 - 1e-5) cr_expect_float_eq(bound_decoder(1, gap, l).nats, -log(1 - cdf[0]), 1e-10);
        }
}

Test(reverse_variance, what_is_impossible_is_cut_off_without_slopes)
{
    static const double gaps[] = {1, -1, 1e30, -INFINITY};
    for (int k = 0; k < 4; k++) {
        const bound_term term = bound_decoder(0.2, gaps[k], -9);
        cr_expect_float_eq(term.nats, -log(1e-12), 1e-12);
        cr_expect(term.by_gap == 0 && term.by_log_variance == 0);
    }
    cr_expect(isfinite(bound_decoder(0.2, 0.3, -1e5).nats) && isfinite(bound_decoder(0.2, 0.3, 1e5).nats));
    cr_expect(isnan(bound_decoder(0.2, NAN, -9).nats) && isnan(bound_decoder(0.2, 0, NAN).by_gap));
    cr_expect(isnan(bound_between(NAN, 0, -9).nats) && isnan(bound_between(0, NAN, -9).by_log_variance));
}

/* e^-d - 1 + d where subtracting leaves nothing; the series and the other branch meet. */
Test(reverse_variance, small_differences_of_variance_count)
{
    cr_expect_float_eq(exp_excess(1e-9), 0.5e-18, 1e-27);
    cr_expect_float_eq(exp_excess(-1e-5), 0.5e-10 + 1e-15 / 6, 1e-21);
    for (double d = -3; d < 3; d += 0.01) cr_expect_float_eq(exp_excess(d), exp(-d) - 1 + d, 1e-15 + 1e-15 * exp(-d));
}

/* A chain of every hundredth timestep: the step to the image has the variance of the one before, whatever is between. */
Test(reverse_variance, a_chain_of_few_steps_has_variances_of_its_own)
{
    const reverse_variance r = reverse_variance_at(s, 0, -1, 100), next = reverse_variance_at(s, 100, 0, 200);
    const double beta = 1 - s->abar[100] / s->abar[0];
    cr_expect(r.decoder && !next.decoder);
    cr_expect_float_eq(r.log_variance, next.log_variance, 1e-15);
    cr_expect_float_eq(next.log_variance, log(beta * (1 - s->abar[0]) / (1 - s->abar[100])), 1e-12);
    cr_expect_float_eq(next.log_span, log(beta) - next.log_variance, 1e-12);
    cr_expect_float_eq(r.x0_weight, 1, 1e-15);
    const reverse_variance alone = reverse_variance_at(s, 500, -1, -1);
    cr_expect(alone.decoder && alone.log_span == 0);
    cr_expect_float_eq(alone.log_variance, log(1 - s->abar[500]), 1e-12);
}
