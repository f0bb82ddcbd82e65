#include "diffusion/timestep_draw.h"

#include <math.h>

timestep_draw timestep_draw_default(void)
{
    return (timestep_draw){.logit_std = 1, .mode_scale = 1.29, .P_mean = -1.2, .P_std = 1.2};
}

static double normal_below(double z) { return 0.5 * erfc(-z * M_SQRT1_2); }

/* The probability of u < x: v is above the root of u(v) = x, as u falls with v. */
static double mode_below(double scale, double x)
{
    double low = 0, high = 1;
    for (int i = 0; i < 60; i++) {
        const double v = 0.5 * (low + high), c = cos(M_PI * v / 2);
        *(1 - v - scale * (c * c - 1 + v) > x ? &low : &high) = v;
    }
    return 1 - low;
}

static double log_level(const schedule *s, int t)
{
    const training_level l = training_level_at(s, t);
    return log(l.noise / l.signal);
}

/* The probability of a level below t, 0 < t < T. */
static double below(const timestep_draw *d, const schedule *s, int t)
{
    const double u = (double)t / training_levels(s);
    switch (d->kind) {
    case DRAW_UNIFORM:
    case DRAW_LOSS_SECOND_MOMENT: break;
    case DRAW_LOGIT_NORMAL: return normal_below((log(u / (1 - u)) - d->logit_mean) / d->logit_std);
    case DRAW_MODE: return mode_below(d->mode_scale, u);
    case DRAW_LOG_NORMAL: {
        const double border = 0.5 * (log_level(s, t - 1) + log_level(s, t));
        return normal_below((border - d->P_mean) / d->P_std);
    }
    }
    return u;
}

void timestep_draw_fill(const timestep_draw *d, const schedule *s, int64_t *cumulative)
{
    const int T = training_levels(s);
    for (int t = 1; t < T; t++) cumulative[t] = (int64_t)rint(ldexp(below(d, s, t), 32));
    cumulative[0] = 0;
    cumulative[T] = (int64_t)1 << 32;
}
