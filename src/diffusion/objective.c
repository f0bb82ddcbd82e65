#include "diffusion/objective.h"
#include "train_state.h"

#include <math.h>

objective_inverse objective_to_x0(const schedule *s, int t)
{
    const double signal = sqrt(s->abar[t]), noise = sqrt(1 - s->abar[t]);
    switch (s->config.prediction_type) {
    case SCHEDULER_EPSILON: break;
    case SCHEDULER_SAMPLE: return (objective_inverse){0, 1};
    case SCHEDULER_V_PREDICTION: return (objective_inverse){signal, -noise};
    case SCHEDULER_FLOW: return (objective_inverse){1 / (signal + noise), -noise / (signal + noise)};
    case SCHEDULER_MU: {
        const posterior q = schedule_posterior(s, t, t - 1);
        return (objective_inverse){-q.x_weight / q.x0_weight, 1 / q.x0_weight};
    }
    }
    return (objective_inverse){1 / signal, -noise / signal};
}

static void target(const schedule *s, int t, double *of_x0, double *of_eps)
{
    const double signal = sqrt(s->abar[t]), noise = sqrt(1 - s->abar[t]);
    switch (s->config.prediction_type) {
    case SCHEDULER_EPSILON: *of_x0 = 0, *of_eps = 1; return;
    case SCHEDULER_SAMPLE: *of_x0 = 1, *of_eps = 0; return;
    case SCHEDULER_V_PREDICTION: *of_x0 = -noise, *of_eps = signal; return;
    case SCHEDULER_FLOW: *of_x0 = -1, *of_eps = 1; return;
    case SCHEDULER_MU: {
        const posterior q = schedule_posterior(s, t, t - 1);
        *of_x0 = q.x0_weight + q.x_weight * signal;
        *of_eps = q.x_weight * noise;
    }
    }
}

objective objective_default(void) { return (objective){.snr_gamma = 5, .p2_k = 1, .p2_gamma = 1, .huber_c = 0.1}; }

/* The weight of the target's squared error: that of x0_hat, whose error is c_out times as large. */
static double weight_of(const schedule *s, const objective *o, int t)
{
    const double snr = s->abar[t] / (1 - s->abar[t]), c_out = objective_to_x0(s, t).c_out, scale = c_out * c_out;
    switch (o->weighting) {
    case WEIGHTING_NONE: break;
    case WEIGHTING_SNR: return snr * scale;
    case WEIGHTING_TRUNCATED_SNR: return fmax(snr, 1) * scale;
    case WEIGHTING_MIN_SNR: return fmin(snr, o->snr_gamma) * scale;
    case WEIGHTING_P2: return snr / pow(o->p2_k + snr, o->p2_gamma) * scale;
    }
    return 1;
}

static double huber_of(const schedule *s, const objective *o, int t)
{
    const double c = o->huber_c;
    switch (o->huber_schedule) {
    case HUBER_CONSTANT: break;
    case HUBER_EXPONENTIAL: return pow(c, (double)t / s->timesteps);
    case HUBER_SNR: {
        const double level = 1 + sqrt((1 - s->abar[t]) / s->abar[t]); /* infinite at zero SNR */
        return (1 - c) / (level * level) + c;
    }
    }
    return c;
}

void objective_fill_table(const schedule *s, const objective *o, float *table)
{
    for (int t = 0; t < s->timesteps; t++) {
        double of_x0 = 0, of_eps = 0;
        float *row = table + (size_t)t * TABLE_COLUMNS;
        target(s, t, &of_x0, &of_eps);
        row[TABLE_SIGNAL] = (float)sqrt(s->abar[t]);
        row[TABLE_NOISE] = (float)sqrt(1 - s->abar[t]);
        row[TABLE_TARGET_X0] = (float)of_x0;
        row[TABLE_TARGET_EPS] = (float)of_eps;
        row[TABLE_WEIGHT] = (float)weight_of(s, o, t);
        row[TABLE_HUBER] = (float)huber_of(s, o, t);
        row[TABLE_TIME] = (float)t;
        row[TABLE_LEVEL] = (float)((int64_t)t * TRAIN_LEVELS / s->timesteps);
    }
}
