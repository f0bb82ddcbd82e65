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

enum { SIGMA_LEVELS = 10000 };

int training_levels(const schedule *s)
{
    const diffusion_process p = process_of(&s->config);
    return p == PROCESS_EDM || p == PROCESS_VP || p == PROCESS_VE ? SIGMA_LEVELS : s->timesteps;
}

static training_level level_of_betas(const schedule *s, int t)
{
    training_level l = {.signal = sqrt(s->abar[t]), .noise = sqrt(1 - s->abar[t]), .time = t};
    target(s, t, &l.of_x0, &l.of_eps);
    l.c_out = objective_to_x0(s, t).c_out;
    return l;
}

static training_level level_of_flow(const schedule *s, int i)
{
    const double u = flow_shifted((i + 1.0) / s->timesteps, s->config.flow_shift);
    return (training_level){
        .signal = 1 - u, .noise = u, .of_x0 = -1, .of_eps = 1, .c_out = -u, .time = s->timesteps * u};
}

static double log_sigma_of(const scheduler_config *c, int i)
{
    const double from = log(c->sigma_min), to = log(c->sigma_max);
    return from + (to - from) * i / (SIGMA_LEVELS - 1);
}

static training_level level_of_edm(const schedule *s, int i)
{
    const scheduler_config *c = &s->config;
    const double log_sigma = log_sigma_of(c, i), sigma = exp(log_sigma), data = c->sigma_data;
    const double H = hypot(sigma, data), sign = c->prediction_type == SCHEDULER_V_PREDICTION ? -1 : 1;
    return (training_level){.signal = 1 / H,
                            .noise = sigma / H,
                            .of_x0 = sign * sigma / (data * H),
                            .of_eps = -sign * data / H,
                            .c_out = sign * sigma * data / H,
                            .time = log_sigma / 4};
}

static training_level level_of_vp(const schedule *s, int i)
{
    const double t = s->config.epsilon_t + (1 - s->config.epsilon_t) * i / (SIGMA_LEVELS - 1);
    const double sigma = vp_sigma(&s->config, t), H = hypot(1, sigma);
    return (training_level){
        .signal = 1 / H, .noise = sigma / H, .of_eps = 1, .c_out = -sigma, .time = (s->timesteps - 1) * t};
}

static training_level level_of_ve(const schedule *s, int i)
{
    const double sigma = exp(log_sigma_of(&s->config, i));
    return (training_level){.signal = 1, .noise = sigma, .of_eps = -1, .c_out = sigma, .time = log(sigma / 2)};
}

training_level training_level_at(const schedule *s, int i)
{
    switch (process_of(&s->config)) {
    case PROCESS_BETAS:
    case PROCESS_CONSISTENCY: break; /* not trained */
    case PROCESS_EDM: return level_of_edm(s, i);
    case PROCESS_VP: return level_of_vp(s, i);
    case PROCESS_VE: return level_of_ve(s, i);
    case PROCESS_FLOW: return level_of_flow(s, i);
    }
    return level_of_betas(s, i);
}

objective objective_default(void) { return (objective){.snr_gamma = 5, .p2_k = 1, .p2_gamma = 1, .huber_c = 0.1}; }

/* The weight of the target's squared error: that of x0_hat, whose error is c_out times as large. */
static double weight_of(const objective *o, const training_level *l)
{
    const double ratio = l->signal / l->noise, snr = ratio * ratio, scale = l->c_out * l->c_out;
    switch (o->weighting) {
    case WEIGHTING_NONE: break;
    case WEIGHTING_SNR: return snr * scale;
    case WEIGHTING_TRUNCATED_SNR: return fmax(snr, 1) * scale;
    case WEIGHTING_MIN_SNR: return fmin(snr, o->snr_gamma) * scale;
    case WEIGHTING_P2: return snr / pow(o->p2_k + snr, o->p2_gamma) * scale;
    }
    return 1;
}

/* done: i / levels */
static double huber_of(const objective *o, const training_level *l, double done)
{
    const double c = o->huber_c;
    switch (o->huber_schedule) {
    case HUBER_CONSTANT: break;
    case HUBER_EXPONENTIAL: return pow(c, done);
    case HUBER_SNR: {
        const double level = 1 + l->noise / l->signal; /* infinite at zero SNR */
        return (1 - c) / (level * level) + c;
    }
    }
    return c;
}

void objective_fill_variance(const reverse_variance *v, double c_out, float row[TABLE_COLUMNS])
{
    row[TABLE_C_OUT] = (float)c_out;
    row[TABLE_X0_WEIGHT] = (float)v->x0_weight;
    row[TABLE_LOG_VARIANCE] = (float)v->log_variance;
    row[TABLE_LOG_SPAN] = (float)v->log_span;
    row[TABLE_DECODER] = v->decoder ? 1 : 0;
}

void objective_fill_table(const schedule *s, const objective *o, float *table)
{
    const int levels = training_levels(s);
    for (int i = 0; i < levels; i++) {
        const training_level l = training_level_at(s, i);
        float *row = table + (size_t)i * TABLE_COLUMNS;
        row[TABLE_SIGNAL] = (float)l.signal;
        row[TABLE_NOISE] = (float)l.noise;
        row[TABLE_TARGET_X0] = (float)l.of_x0;
        row[TABLE_TARGET_EPS] = (float)l.of_eps;
        row[TABLE_WEIGHT] = (float)weight_of(o, &l);
        row[TABLE_HUBER] = (float)huber_of(o, &l, (double)i / levels);
        row[TABLE_TIME] = (float)l.time;
        row[TABLE_LEVEL] = (float)((int64_t)i * TRAIN_LEVELS / levels);
        reverse_variance v = {0};
        if (o->learned) v = reverse_variance_at(s, i, i - 1, i + 1 < levels ? i + 1 : -1);
        objective_fill_variance(&v, o->learned ? l.c_out : 0, row);
    }
}
