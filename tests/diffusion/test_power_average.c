/* Averages by a power function, and others made of them: against the figures of NVlabs/edm2, and against averages that
 * were tracked. */
#include "diffusion/power_average.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <math.h>

static err why;

Test(power_average, gamma_is_that_of_its_width)
{
    static const double sigma[] = {.05, .1, .15}, gamma[] = {16.9721986, 6.93720394, 3.55786877};
    for (int i = 0; i < 3; i++)
        cr_assert_float_eq(power_average_gamma(sigma[i]), gamma[i], 6e-9 * gamma[i], "%.12g",
                           power_average_gamma(sigma[i]));
    for (double s = 0.001; s < 0.288; s += 0.0007)
        cr_assert_float_eq(power_average_sigma(power_average_gamma(s)), s, 1e-14);
}

/* The standard deviation of the profile tau^gamma on [0, 1], by summation. */
Test(power_average, width_is_a_standard_deviation)
{
    const double gamma = power_average_gamma(0.1);
    double sum = 0, first = 0, second = 0;
    for (int i = 0; i < 200000; i++) {
        const double tau = (i + 0.5) / 200000, share = pow(tau, gamma);
        sum += share, first += share * tau, second += share * tau * tau;
    }
    cr_assert_float_eq(sqrt(second / sum - pow(first / sum, 2)), 0.1, 1e-9);
}

enum { SNAPSHOTS = 4, N = 2 * SNAPSHOTS };

static void of_two_widths(power_average from[N], double unit)
{
    for (int i = 0; i < N; i++) from[i] = (power_average){power_average_gamma(i % 2 ? 0.1 : 0.05), unit * (i / 2 + 1)};
}

Test(power_average, weights_are_those_of_edm2)
{
    static const double want[N] = {-.000562035, .001944069, -.013147866, .038019967,
                                   -.077958372, .200408640, -.264061971, 1.115357568};
    power_average from[N];
    double weight[N];
    for (double unit = 1; unit < 1e10; unit *= 1000) { /* of time */
        of_two_widths(from, unit);
        OK(power_average_fit(from, N, (power_average){power_average_gamma(.15), 4 * unit}, weight, &why));
        for (int i = 0; i < N; i++) cr_assert_float_eq(weight[i], want[i], 1e-8, "%d: %.12g", i, weight[i]);
    }
}

/* The average of a path by its defining integral: sum over the steps, each with its share of tau^gamma. */
static double tracked(double gamma, int steps)
{
    double average = 0;
    for (int t = 1; t <= steps; t++) {
        const double share = 1 - pow(1 - 1.0 / t, gamma + 1), w = 1 - exp(-t / 300.0) + 0.1 * sin(t / 40.0);
        average += share * (w - average);
    }
    return average;
}

Test(power_average, one_that_was_not_tracked_can_be_made)
{
    enum { EACH = 16, ALL = 2 * EACH, STEPS = 1600 };
    power_average from[ALL];
    double weight[ALL];
    for (int i = 0; i < ALL; i++)
        from[i] = (power_average){power_average_gamma(i % 2 ? 0.1 : 0.05), STEPS / EACH * (i / 2 + 1)};
    for (double sigma = 0.03; sigma < 0.21; sigma += 0.02) {
        const double gamma = power_average_gamma(sigma);
        double made = 0, sum = 0;
        OK(power_average_fit(from, ALL, (power_average){gamma, STEPS}, weight, &why));
        for (int i = 0; i < ALL; i++) made += weight[i] * tracked(from[i].gamma, (int)from[i].t), sum += weight[i];
        cr_assert_float_eq(sum, 1, 1e-12);
        cr_assert_float_eq(made, tracked(gamma, STEPS), 2e-3, "sigma_rel %g: %.6f, tracked %.6f", sigma, made,
                           tracked(gamma, STEPS));
    }
}

Test(power_average, one_that_was_tracked_is_found_again)
{
    power_average from[N];
    double weight[N];
    of_two_widths(from, 1);
    OK(power_average_fit(from, N, from[5], weight, &why));
    for (int i = 0; i < N; i++) cr_assert_float_eq(weight[i], i == 5, 1e-9);
}

/* As many as a long run keeps. */
Test(power_average, hundreds_of_snapshots_have_a_solution)
{
    enum { MANY = 256 };
    static power_average from[MANY];
    static double weight[MANY];
    double made = 0;
    for (int i = 0; i < MANY; i++) from[i] = (power_average){power_average_gamma(i % 2 ? 0.1 : 0.05), 8 * (i / 2 + 1)};
    OK(power_average_fit(from, MANY, (power_average){power_average_gamma(.15), 4 * MANY}, weight, &why));
    for (int i = 0; i < MANY; i++) made += weight[i] * tracked(from[i].gamma, (int)from[i].t);
    cr_assert_float_eq(made, tracked(power_average_gamma(.15), 4 * MANY), 2e-3, "%.6f", made);
}

Test(power_average, the_same_twice_is_refused)
{
    const power_average from[] = {{3, 1}, {3, 1}};
    double weight[2];
    cr_assert_eq(power_average_fit(from, 2, (power_average){2, 1}, weight, &why), DDPM_EINVAL);
}
