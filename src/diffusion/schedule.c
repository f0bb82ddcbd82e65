#include "diffusion/schedule.h"
#include "core/mem.h"

#include <math.h>

static double lerp(double a, double b, int i, int n) { return n > 1 ? a + (b - a) * i / (n - 1) : a; }

/* Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 17: abar(u) up to a factor, u in [0, 1] */
static double cosine(double u)
{
    const double c = cos((u + 0.008) / 1.008 * M_PI / 2);
    return c * c;
}

static double beta_at(const scheduler_config *c, int i)
{
    const int T = c->num_train_timesteps;
    switch (c->beta_schedule) {
    case SCHEDULER_LINEAR: break;
    case SCHEDULER_SCALED_LINEAR: {
        const double root = lerp(sqrt(c->beta_start), sqrt(c->beta_end), i, T);
        return root * root;
    }
    case SCHEDULER_SQUAREDCOS_CAP_V2: return fmin(1 - cosine((i + 1.0) / T) / cosine((double)i / T), 0.999);
    case SCHEDULER_SIGMOID: return (c->beta_end - c->beta_start) / (1 + exp(-lerp(-6, 6, i, T))) + c->beta_start;
    }
    return lerp(c->beta_start, c->beta_end, i, T);
}

ddpm_status schedule_create(const scheduler_config *c, schedule **out, err *e)
{
    const int T = c->num_train_timesteps;
    schedule *s = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    if (T < 1 || T > SCHEDULER_MAX_TIMESTEPS)
        return err_set(e, DDPM_EINVAL, "num_train_timesteps %d is not in [1, %d]", T, SCHEDULER_MAX_TIMESTEPS);
    TRY_GOTO(mem_array(&s, 1, sizeof *s, "schedule", e));
    s->config = *c;
    s->timesteps = T;
    TRY_GOTO(mem_array(&s->beta, (size_t)T, sizeof(double), "schedule", e));
    TRY_GOTO(mem_array(&s->abar, (size_t)T, sizeof(double), "schedule", e));
    double abar = 1;
    for (int i = 0; i < T; i++) {
        const double beta = beta_at(c, i);
        if (!(beta > 0 && beta < 1))
            TRY_GOTO(err_set(e, DDPM_EINVAL, "beta_start %g, beta_end %g: beta of timestep %d is %g, not in (0, 1)",
                             c->beta_start, c->beta_end, i, beta));
        abar *= 1 - beta;
        s->beta[i] = beta;
        s->abar[i] = abar;
    }
    *out = s;
    s = NULL;
done:
    schedule_destroy(s);
    return st;
}

void schedule_destroy(schedule *s)
{
    if (!s) return;
    mem_free(s->beta);
    mem_free(s->abar);
    mem_free(s);
}

posterior schedule_posterior(const schedule *s, int t, int prev)
{
    const double abar = schedule_abar(s, t), abar_prev = schedule_abar(s, prev);
    const double alpha = abar / abar_prev, beta = 1 - alpha;
    return (posterior){.x0_weight = sqrt(abar_prev) * beta / (1 - abar),
                       .x_weight = sqrt(alpha) * (1 - abar_prev) / (1 - abar),
                       .beta = beta,
                       .variance = beta * (1 - abar_prev) / (1 - abar)};
}

ddpm_status schedule_respace(const schedule *s, int n, int *t, err *e)
{
    const int T = s->timesteps;
    if (n < 1 || n > T) return err_set(e, DDPM_EINVAL, "num_inference_steps %d is not in [1, %d]", n, T);
    for (int i = 0; i < n; i++) { /* i counts up in time; rint rounds halves to even, as numpy does */
        int at = 0;
        switch (s->config.timestep_spacing) {
        case SCHEDULER_LEADING: at = i * (T / n) + s->config.steps_offset; break;
        case SCHEDULER_LINSPACE: at = (int)rint(n > 1 ? (double)i * (T - 1) / (n - 1) : 0); break;
        case SCHEDULER_TRAILING: at = (int)rint(T - (n - 1 - i) * ((double)T / n)) - 1; break;
        }
        if (at >= T)
            return err_set(e, DDPM_EINVAL, "steps_offset %d: timestep %d of %d", s->config.steps_offset, at, T);
        t[n - 1 - i] = at;
    }
    return DDPM_OK;
}
