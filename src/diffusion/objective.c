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

void objective_fill_table(const schedule *s, float *table)
{
    for (int t = 0; t < s->timesteps; t++) {
        double of_x0 = 0, of_eps = 0;
        float *row = table + (size_t)t * TABLE_COLUMNS;
        target(s, t, &of_x0, &of_eps);
        row[TABLE_SIGNAL] = (float)sqrt(s->abar[t]);
        row[TABLE_NOISE] = (float)sqrt(1 - s->abar[t]);
        row[TABLE_TARGET_X0] = (float)of_x0;
        row[TABLE_TARGET_EPS] = (float)of_eps;
        row[TABLE_WEIGHT] = 1;
        row[TABLE_TIME] = (float)t;
        row[TABLE_LEVEL] = (float)((int64_t)t * TRAIN_LEVELS / s->timesteps);
    }
}
