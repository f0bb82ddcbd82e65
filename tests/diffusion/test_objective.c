/* Loss weights, the c of Huber losses, and the distributions of timesteps: against the papers' formulas, and figures that an
 * independent program computed from them in double. */
#include "base/mem.h"
#include "diffusion/objective.h"
#include "diffusion/timestep_draw.h"
#include "support/ok.h"
#include "train_state.h"

#include <criterion/criterion.h>
#include <math.h>

enum { T = 1000, SHOWN = 5 };

static err why;
static const int shown[SHOWN] = {0, 250, 500, 750, 999};

static schedule *linear(scheduler_prediction prediction, bool zero_snr)
{
    scheduler_config c = scheduler_config_default();
    schedule *s;
    c.prediction_type = prediction;
    c.rescale_betas_zero_snr = zero_snr;
    OK(schedule_create(&c, &s, &why));
    return s;
}

static float *table_of(const schedule *s, const objective *o)
{
    float *table;
    OK(mem_array(&table, (size_t)T * TABLE_COLUMNS, sizeof *table, "test", &why));
    objective_fill_table(s, o, table);
    return table;
}

static void expect_weights(objective_weighting kind, scheduler_prediction prediction, const double want[SHOWN])
{
    schedule *s = linear(prediction, false);
    objective o = objective_default();
    o.weighting = kind;
    float *table = table_of(s, &o);
    for (int i = 0; i < SHOWN; i++) {
        const double got = (double)table[(size_t)shown[i] * TABLE_COLUMNS + TABLE_WEIGHT];
        cr_expect_float_eq(got, want[i], 2e-6 * want[i], "weighting %d, prediction %d, t %d: %.9g, not %.9g", kind,
                           prediction, shown[i], got, want[i]);
    }
    mem_free(table);
    schedule_destroy(s);
}

static const double snr[SHOWN] = {9999, 1.08952805, .0843595494, .00331108547, 4.03599265e-5};

Test(objective, weights_are_those_of_the_papers)
{
    static const double one[SHOWN] = {1, 1, 1, 1, 1};
    double abar[SHOWN], noise[SHOWN], truncated[3][SHOWN];
    for (int i = 0; i < SHOWN; i++) {
        abar[i] = snr[i] / (1 + snr[i]), noise[i] = 1 / (1 + snr[i]);
        truncated[0][i] = fmax(1, 1 / snr[i]), truncated[1][i] = fmax(snr[i], 1);
        truncated[2][i] = fmax(abar[i], noise[i]);
    }
    for (int p = SCHEDULER_EPSILON; p <= SCHEDULER_V_PREDICTION; p++)
        expect_weights(WEIGHTING_NONE, (scheduler_prediction)p, one);
    expect_weights(WEIGHTING_SNR, SCHEDULER_EPSILON, one);
    expect_weights(WEIGHTING_SNR, SCHEDULER_SAMPLE, snr);
    expect_weights(WEIGHTING_SNR, SCHEDULER_V_PREDICTION, abar);
    expect_weights(WEIGHTING_TRUNCATED_SNR, SCHEDULER_EPSILON, truncated[0]);
    expect_weights(WEIGHTING_TRUNCATED_SNR, SCHEDULER_SAMPLE, truncated[1]);
    expect_weights(WEIGHTING_TRUNCATED_SNR, SCHEDULER_V_PREDICTION, truncated[2]);
    expect_weights(WEIGHTING_MIN_SNR, SCHEDULER_EPSILON, (const double[SHOWN]){5.0005e-4, 1, 1, 1, 1});
    expect_weights(WEIGHTING_MIN_SNR, SCHEDULER_SAMPLE,
                   (const double[SHOWN]){5, 1.08952805, .0843595494, .00331108547, 4.03599265e-5});
    expect_weights(WEIGHTING_MIN_SNR, SCHEDULER_V_PREDICTION,
                   (const double[SHOWN]){5e-4, .52142303, .07779666, .00330015836, 4.03582977e-5});
    expect_weights(WEIGHTING_P2, SCHEDULER_EPSILON,
                   (const double[SHOWN]){1e-4, .47857697, .92220334, .99669984, .99995964});
}

/* Pure noise says nothing of the image: v is not trained there. */
Test(objective, weights_are_finite_with_zero_snr)
{
    schedule *s = linear(SCHEDULER_V_PREDICTION, true);
    for (int kind = WEIGHTING_NONE; kind <= WEIGHTING_P2; kind++)
        for (int huber = HUBER_CONSTANT; huber <= HUBER_SNR; huber++) {
            objective o = objective_default();
            o.weighting = (objective_weighting)kind, o.huber_schedule = (huber_schedule)huber;
            float *table = table_of(s, &o);
            for (int i = 0; i < T * TABLE_COLUMNS; i++) cr_assert(isfinite(table[i]), "column %d", i % TABLE_COLUMNS);
            const float last = table[(T - 1) * TABLE_COLUMNS + TABLE_WEIGHT];
            cr_expect_eq(last, kind == WEIGHTING_NONE || kind == WEIGHTING_TRUNCATED_SNR ? 1 : 0, "kind %d: %g", kind,
                         (double)last);
            mem_free(table);
        }
    schedule_destroy(s);
}

/* train_text_to_image.py and its relatives in diffusers: c^(t / T), and (1 - c) / (1 + sigma)^2 + c. */
Test(objective, huber_c_follows_its_schedule)
{
    schedule *s = linear(SCHEDULER_EPSILON, false);
    objective o = objective_default();
    static const double want[3] = {0.1, 0.31622777, 0.9 / (4.44296183 * 4.44296183) + 0.1};
    for (int kind = HUBER_CONSTANT; kind <= HUBER_SNR; kind++) {
        o.huber_schedule = (huber_schedule)kind;
        float *table = table_of(s, &o);
        cr_expect_float_eq(table[500 * TABLE_COLUMNS + TABLE_HUBER], want[kind], 1e-6, "schedule %d", kind);
        mem_free(table);
    }
    schedule_destroy(s);
}

/* ---- EDM and flows ---- */

/* Karras et al. 2022, table 1, at sigma_data 0.5: an independent program's figures in double. */
Test(objective, levels_of_edm_are_those_of_the_paper)
{
    static const double known[][4] = {
        /* sigma, c_in, c_out, c_noise */
        {.002, 1.999984, .001999984, -1.55365203}, {.05, 1.99007438, .0497518595, -.748933068},
        {.3, 1.71498585, .257247878, -.300993201}, {1, .894427191, .447213595, 0},
        {5, .199007438, .497518595, .402359478},   {80, .0124997559, .499990235, 1.09550666}};
    scheduler_config c = scheduler_config_of(SCHEDULER_CLASS_EDM_EULER);
    schedule *s;
    OK(schedule_create(&c, &s, &why));
    const int levels = training_levels(s);
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        const double sigma = known[k][0], share = log(sigma / .002) / log(80 / .002);
        const training_level l = training_level_at(s, (int)lrint(share * (levels - 1)));
        const double near = 6e-4; /* half the distance of two levels */
        cr_expect_float_eq(l.noise / l.signal, sigma, near * sigma);
        cr_expect_float_eq(l.signal, known[k][1], near * known[k][1]);
        cr_expect_float_eq(l.time, known[k][3], near / 4 + 1e-8);
        cr_expect_float_eq(l.c_out, known[k][2], near * known[k][2] + 1e-8);
        /* x0_hat = c_skip x + c_out F is x_0 for the exact prediction: the coefficient of eps vanishes, that of x_0 is 1 */
        const double c_skip = .25 / (.25 + pow(l.noise / l.signal, 2)), H = 1 / l.signal;
        cr_expect_float_eq(c_skip * H * l.noise + l.c_out * l.of_eps, 0, 1e-12);
        cr_expect_float_eq(c_skip * H * l.signal + l.c_out * l.of_x0, 1, 1e-12);
    }
    schedule_destroy(s);
}

/* The same table, VP and VE; times by an independent program, at sigma .05, .5 and 10. */
Test(objective, levels_of_vp_and_ve_are_those_of_the_paper)
{
    static const double sigmas[] = {.05, .5, 10}, vp[] = {11.58238, 144.66911, 675.36891},
                        ve[] = {-3.68887945, -1.38629436, 1.60943791};
    scheduler_config c = scheduler_config_of(SCHEDULER_CLASS_SDE_VP), d = scheduler_config_of(SCHEDULER_CLASS_SDE_VE);
    schedule *s, *r;
    c.num_train_timesteps = d.num_train_timesteps = 1000;
    d.sigma_min = 0.02, d.sigma_max = 100;
    OK(schedule_create(&c, &s, &why));
    OK(schedule_create(&d, &r, &why));
    for (int k = 0; k < 3; k++) {
        const double sigma = sigmas[k], t = vp[k] / 999, share = (log(sigma) - log(.02)) / (log(100) - log(.02));
        cr_expect_float_eq(999 * vp_time(&c, sigma), vp[k], 1e-5);
        cr_expect_float_eq(vp_sigma(&c, vp[k] / 999), sigma, 1e-6 * sigma);
        const training_level v = training_level_at(s, (int)lrint((t - 1e-5) / (1 - 1e-5) * (training_levels(s) - 1)));
        cr_expect_float_eq(v.time, vp[k], 0.051); /* half the distance of two levels */
        cr_expect_float_eq(v.noise / v.signal, sigma, 0.006 * sigma);
        cr_expect_float_eq(v.signal * v.signal + v.noise * v.noise, 1, 1e-12);
        cr_expect(v.of_x0 == 0 && v.of_eps == 1);
        cr_expect_float_eq(v.c_out, -v.noise / v.signal, 1e-12 * sigma);
        const training_level e = training_level_at(r, (int)lrint(share * (training_levels(r) - 1)));
        cr_expect_float_eq(e.time, ve[k], 5e-4);
        cr_expect_float_eq(e.noise, sigma, 5e-4 * sigma);
        cr_expect(e.signal == 1 && e.of_x0 == 0 && e.of_eps == -1 && e.c_out == e.noise);
    }
    /* the ends: t from epsilon_t to 1 and sigma from sigma_min to sigma_max */
    cr_expect_float_eq(training_level_at(s, 0).time, 999e-5, 1e-9);
    cr_expect_float_eq(training_level_at(s, training_levels(s) - 1).time, 999, 1e-9);
    cr_expect_float_eq(training_level_at(r, 0).noise, .02, 1e-12);
    cr_expect_float_eq(training_level_at(r, training_levels(r) - 1).noise, 100, 1e-10);
    schedule_destroy(s);
    schedule_destroy(r);
}

/* Shift 3 of u = 1, .999, .75, .5, .25, .001. */
Test(objective, levels_of_a_flow_are_shifted)
{
    static const double known[][2] = {{1, 1}, {.999, .9996664}, {.75, .9}, {.5, .75}, {.25, .5}, {.001, .002994012}};
    scheduler_config c = scheduler_config_of(SCHEDULER_CLASS_FLOW_EULER);
    schedule *s;
    c.flow_shift = 3;
    OK(schedule_create(&c, &s, &why));
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        const training_level l = training_level_at(s, (int)lrint(known[k][0] * T) - 1);
        cr_expect_float_eq(l.noise, known[k][1], 1e-7);
        cr_expect_float_eq(l.signal, 1 - known[k][1], 1e-7);
        cr_expect_float_eq(l.time, 1000 * known[k][1], 1e-4);
        cr_expect(l.of_x0 == -1 && l.of_eps == 1);
    }
    schedule_destroy(s);
}

/* ---- timesteps ---- */

static int64_t cumulative[T + 1];

static void fill(const timestep_draw *d)
{
    schedule *s = linear(SCHEDULER_EPSILON, false);
    timestep_draw_fill(d, s, cumulative);
    cr_assert(cumulative[0] == 0 && cumulative[T] == (int64_t)1 << 32);
    for (int t = 0; t < T; t++) cr_assert_leq(cumulative[t], cumulative[t + 1], "timestep %d", t);
    schedule_destroy(s);
}

/* The share of timesteps below u T, between two of them by interpolation. */
static double share_below(double u)
{
    const int t = (int)(u * T);
    const double rest = u * T - t, low = (double)cumulative[t], high = (double)cumulative[t + 1];
    return ldexp(low + rest * (high - low), -32);
}

Test(timesteps, logit_normal_and_mode_have_the_quantiles_of_their_formulas)
{
    timestep_draw d = timestep_draw_default();
    d.kind = DRAW_LOGIT_NORMAL;
    fill(&d);
    cr_expect_float_eq(share_below(.2689414), 0.15865525, 1e-5); /* z = -1 */
    cr_expect_float_eq(share_below(.5), 0.5, 1e-9);
    cr_expect_float_eq(share_below(.8175745), 0.93319280, 1e-5); /* z = 1.5 */
    d.logit_mean = 1, d.logit_std = 0.5;
    fill(&d);
    cr_expect_float_eq(share_below(1 / (1 + exp(-1.0))), 0.5, 1e-5);
    d.kind = DRAW_MODE;
    fill(&d);
    cr_expect_float_eq(share_below(.8025685), 0.9, 1e-5);
    cr_expect_float_eq(share_below(.5), 0.5, 1e-9);
    cr_expect_float_eq(share_below(.1974315), 0.1, 1e-5);
}

/* A million quantiles of the normal distribution, each given to the nearest noise level. */
Test(timesteps, log_normal_takes_the_nearest_noise_level)
{
    enum { N = 1000000 };
    timestep_draw d = timestep_draw_default();
    schedule *s = linear(SCHEDULER_EPSILON, false);
    static double level[T];
    d.kind = DRAW_LOG_NORMAL;
    fill(&d);
    for (int t = 0; t < T; t++) level[t] = 0.5 * log((1 - s->abar[t]) / s->abar[t]);
    double z = -6, below = 0.5 * erfc(6 * M_SQRT1_2), most = 0;
    int t = 0;
    for (int k = 0; k < N; k++) { /* z rises with its share; t follows */
        z = -6 + 12.0 * (k + 1) / N;
        const double sigma = -1.2 + 1.2 * z;
        while (t + 1 < T && fabs(level[t + 1] - sigma) < fabs(level[t] - sigma)) {
            below = 0.5 * erfc(-z * M_SQRT1_2);
            t++;
            most = fmax(most, fabs(below - ldexp((double)cumulative[t], -32)));
        }
    }
    cr_expect_leq(most, 1e-5, "a border is off by %.2e", most);
    schedule_destroy(s);
}
