/* variational_bound.h - what one element of a reverse step costs in the variational bound, in nats, and its slopes.
 *
 *   between timesteps   KL(q(x_prev | x_t, x_0) || N(mu, e^l)) = (d - 1 + e^-d + gap^2 e^-l) / 2,
 *                       d = l - ln(variance of q),  gap = q's mean - mu
 *   to the image        -ln P, P the mass of N(mu, e^l) on the byte of x_0, gap = x_0 - mu:
 *                       P = cdf(k (gap + 1/255)) - cdf(k (gap - 1/255)), k = e^(-l/2), whose ends are open for the
 *                       bytes 0 and 255; -ln P is at most -ln 1e-12, where it has no slope
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), eq. 5 and 13; Nichol & Dhariwal 2021 (arXiv:2102.09672), section 3.1
 *
 * cdf is the logistic approximation of the normal distribution with which bits per dimension are published,
 * (1 + tanh(sqrt(2 / pi) (a + 0.044715 a^3))) / 2.  Everything is in double, with the functions of power.h: of d = 1e-6
 * and of a P far from 1 little would be left in float. */
#ifndef DDPM_VARIATIONAL_BOUND_H
#define DDPM_VARIATIONAL_BOUND_H
#include "math/power.h"

#define BOUND_NATS_MOST 27.631021115928547 /* -ln 1e-12 */
#define BOUND_BITS      1.4426950408889634 /* bits in a nat, 1 / ln 2 */
#define BOUND_EDGE      0.999              /* |x_0| beyond which the byte is 0 or 255 */

typedef struct bound_term {
    double nats;
    double by_log_variance, by_gap; /* slopes */
} bound_term;

/* e^x of any x; NaN stays NaN. */
HD double bound_exp(double x) { return x != x ? x : exp_f64(x > 700.0 ? 700.0 : x); }

/* e^-d - 1 + d >= 0, without cancellation near 0. */
HD double exp_excess(double d)
{
    double series = 1.0; /* d^2 / 2 (1 - d / 3 (1 - d / 4 (1 - ...))) */
    if (!(d >= -0.5 && d <= 0.5)) return bound_exp(-d) - 1.0 + d;
    for (int k = 16; k >= 3; k--) series = 1.0 - d * (1.0 / k) * series;
    return 0.5 * d * d * series;
}

/* log_variance: of the posterior q, with e^d times whose variance the step is taken. */
HD bound_term bound_between(double d, double gap, double log_variance)
{
    const double excess = exp_excess(d), inverse = bound_exp(-log_variance) * (1.0 - d + excess); /* e^-l */
    const double square = gap * gap * inverse;
    const bound_term term = {0.5 * (excess + square), 0.5 * (d - excess - square), gap * inverse};
    return term;
}

/* An end of the byte: logit z of cdf(a), its slope by a, and e^-|z|. */
typedef struct bound_end {
    double z, slope, small;
} bound_end;

HD bound_end bound_end_at(double a)
{
    const double root = 1.5957691216057308; /* 2 sqrt(2 / pi): cdf(a) = 1 / (1 + e^-z) */
    const double z = root * (a + 0.044715 * a * a * a);
    const bound_end end = {z, root * (1.0 + 0.134145 * a * a), bound_exp(z < 0.0 ? z : -z)};
    return end;
}

/* 1 / (1 + e^-z) and 1 / (1 + e^z). */
HD double bound_below(const bound_end *e) { return (e->z < 0.0 ? e->small : 1.0) / (1.0 + e->small); }
HD double bound_above(const bound_end *e) { return (e->z < 0.0 ? 1.0 : e->small) / (1.0 + e->small); }
/* -ln of the same. */
HD double bound_nats_below(const bound_end *e) { return log_f64(1.0 + e->small) - (e->z < 0.0 ? e->z : 0.0); }
HD double bound_nats_above(const bound_end *e) { return log_f64(1.0 + e->small) + (e->z > 0.0 ? e->z : 0.0); }

/* Where cdf has long been 0 or 1, so that nothing below overflows. */
HD double bound_clamp(double a) { return a < -1e3 ? -1e3 : a > 1e3 ? 1e3 : a; }

/* x0 in [-1, 1]. */
HD bound_term bound_decoder(double x0, double gap, double log_variance)
{
    const double k = bound_exp(-0.5 * log_variance), nan = gap + log_variance;
    const double high = bound_clamp(k * (gap + 1.0 / 255.0)), low = bound_clamp(k * (gap - 1.0 / 255.0));
    const bound_end top = bound_end_at(high), bottom = bound_end_at(low);
    const int first = x0<-BOUND_EDGE, last = x0> BOUND_EDGE, inside = !first && !last;
    /* P = below(top) above(bottom) (1 - e^-w), w the distance of the logits: no difference of nearly equal numbers */
    const double w = 1.5957691216057308 * (high - low) * (1.0 + 0.044715 * (high * high + high * low + low * low));
    const double share = w > 40.0 ? 1.0 : w > 1e-300 ? w - exp_excess(w) : 1e-300;
    double nats = inside ? -log_f64(share) : 0.0, rise = 0.0, fall = 0.0; /* the slopes of cdf at both ends over P */
    if (!last) nats += bound_nats_below(&top), rise = top.slope * bound_above(&top);
    if (!first) nats += bound_nats_above(&bottom), fall = bottom.slope * bound_below(&bottom);
    if (inside) rise /= bound_above(&bottom) * share, fall /= bound_below(&top) * share;
    const int most = nats > BOUND_NATS_MOST;
    const bound_term term = {most ? BOUND_NATS_MOST : nats, most ? 0.0 : 0.5 * (rise * high - fall * low),
                             most ? 0.0 : -k * (rise - fall)};
    const bound_term unknown = {nan, nan, nan};
    return nan == nan ? term : unknown;
}

/* The variance of learned_range: v = -1 is the posterior's, v = 1 beta, and between them the logarithm is interpolated. */
HD double bound_range(double v, double span) { return 0.5 * (v + 1.0) * span; }

#endif
