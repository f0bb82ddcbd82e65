#include "diffusion/schedule.h"
#include "base/mem.h"

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
    if (c->n_trained_betas > 0) return c->trained_betas[i];
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

/* The formulas of the reverse process divide by 1 - abar, and most by sqrt(abar); the coefficients become floats.  A
 * coefficient of 1e30 leaves eight orders of magnitude for the network's output. */
static const double SMALLEST_ABAR = 1e-60;

static ddpm_status fill_betas(schedule *s, err *e)
{
    const scheduler_config *c = &s->config;
    for (int t = 0; t < s->timesteps; t++) {
        s->beta[t] = beta_at(c, t);
        if (!(s->beta[t] > 0 && s->beta[t] < 1))
            return err_set(e, DDPM_EINVAL, "beta_start %g, beta_end %g: beta of timestep %d is %g, not in (0, 1)",
                           c->beta_start, c->beta_end, t, s->beta[t]);
    }
    return DDPM_OK;
}

static ddpm_status fill_abars(schedule *s, err *e)
{
    const scheduler_config *c = &s->config;
    for (int t = 0; t < s->timesteps; t++) {
        const double before = schedule_abar(s, t - 1);
        s->abar[t] = before * (1 - s->beta[t]);
        if (!(s->abar[t] < before))
            return err_set(e, DDPM_EINVAL,
                           "beta_start %g, beta_end %g: beta of timestep %d is %g, too small to change an image; raise "
                           "beta_start",
                           c->beta_start, c->beta_end, t, s->beta[t]);
        if (!(s->abar[t] >= SMALLEST_ABAR))
            return err_set(e, DDPM_EINVAL,
                           "beta_start %g, beta_end %g: at timestep %d of %d alpha-bar is %.2g, below %g, which is "
                           "too small to compute with; lower beta_end or num_train_timesteps",
                           c->beta_start, c->beta_end, t, s->timesteps, s->abar[t], SMALLEST_ABAR);
    }
    return DDPM_OK;
}

/* Lin et al. 2023 (arXiv:2305.08891), algorithm 1: the last signal becomes 0, the first stays. */
static ddpm_status rescale_to_zero_snr(schedule *s, err *e)
{
    const int T = s->timesteps;
    const double first = sqrt(s->abar[0]), last = sqrt(s->abar[T - 1]);
    if (s->config.prediction_type == SCHEDULER_EPSILON)
        return err_set(
            e, DDPM_EINVAL,
            "rescale_betas_zero_snr needs prediction_type v_prediction or sample: at the last timestep x_t is "
            "noise alone, and its epsilon says nothing of the image");
    if (T < 2) return err_set(e, DDPM_EINVAL, "rescale_betas_zero_snr needs num_train_timesteps of 2 or more");
    for (int t = 0; t < T; t++) {
        const double signal = (sqrt(s->abar[t]) - last) * first / (first - last);
        s->abar[t] = t + 1 < T ? signal * signal : 0;
        s->beta[t] = 1 - s->abar[t] / schedule_abar(s, t - 1);
    }
    return DDPM_OK;
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
    TRY_GOTO(fill_betas(s, e));
    TRY_GOTO(fill_abars(s, e));
    if (c->rescale_betas_zero_snr) TRY_GOTO(rescale_to_zero_snr(s, e));
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

diffusion_process process_of(const scheduler_config *c)
{
    static const diffusion_process of_sigma[] = {[SCHEDULER_PRECOND_EDM] = PROCESS_EDM,
                                                 [SCHEDULER_PRECOND_VP] = PROCESS_VP,
                                                 [SCHEDULER_PRECOND_VE] = PROCESS_VE};
    if (c->type == SCHEDULER_CLASS_EDM_EULER || c->type == SCHEDULER_CLASS_EDM_DPM ||
        c->type == SCHEDULER_CLASS_SDE_VP || c->type == SCHEDULER_CLASS_SDE_VE)
        return of_sigma[c->precond];
    if (c->type == SCHEDULER_CLASS_CM) return PROCESS_CONSISTENCY;
    return c->type == SCHEDULER_CLASS_FLOW_EULER || c->use_flow_sigmas ? PROCESS_FLOW : PROCESS_BETAS;
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

/* numpy.linspace(0, T - 1, n)[i] and numpy.arange(T, 0, -T / n)[i], with numpy's order of roundings, which decides how
 * halves are rounded: diffusers/schedulers/scheduling_ddpm.py, set_timesteps(). */
static double numpy_linspace(int T, int n, int i)
{
    const double step = (double)(T - 1) / (n > 1 ? n - 1 : 1);
    return i == n - 1 && n > 1 ? T - 1 : i * step;
}

static double numpy_arange(int T, int n, int i)
{
    const double start = T, delta = (start - start / n) - start;
    return start + i * delta;
}

/* tau_i = c i^2 of Song et al. 2021 (arXiv:2010.02502), appendix D.2, as its authors' code has it: from 0 to 0.8 T. */
static int quadratic(int T, int n, int i)
{
    const double end = sqrt(0.8 * T), root = n > 1 ? end * i / (n - 1) : 0;
    return (int)(root * root);
}

/* Timesteps evenly spaced in log(signal / noise): Lu et al. 2022 (arXiv:2206.00927), section 3.4. */
static double log_snr(const schedule *s, int t)
{
    const double abar = fmax(s->abar[t], 0x1p-24);
    return 0.5 * log(abar / (1 - abar));
}

static int even_in_logsnr(const schedule *s, int n, int i)
{
    const int T = s->timesteps;
    const double first = log_snr(s, 0), last = log_snr(s, T - 1),
                 at = n > 1 ? first + (last - first) * i / (n - 1) : first;
    int low = 0, high = T - 1; /* log_snr(low) >= at >= log_snr(high) */
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        *(log_snr(s, middle) >= at ? &low : &high) = middle;
    }
    return log_snr(s, low) - at < at - log_snr(s, high) ? low : high;
}

/* Neighbours that fell on one timestep take the nearest free one above, or at the end of the range below. */
static void move_apart(int T, int n, int *t)
{
    for (int i = n - 2; i >= 0; i--) t[i] = t[i] > t[i + 1] ? t[i] : t[i + 1] + 1;
    for (int i = 0; i < n; i++) t[i] = t[i] < T - 1 - i ? t[i] : T - 1 - i;
}

ddpm_status schedule_respace(const schedule *s, int n, int *t, err *e)
{
    const int T = s->timesteps, offset = s->config.steps_offset;
    if (n < 1 || n > T) return err_set(e, DDPM_EINVAL, "num_inference_steps %d is not in [1, %d]", n, T);
    for (int i = 0; i < n; i++) { /* rint rounds halves to even, as numpy does */
        switch (s->config.timestep_spacing) {
        case SCHEDULER_LEADING: t[i] = (n - 1 - i) * (T / n) + offset; break;
        case SCHEDULER_LINSPACE: t[i] = (int)rint(numpy_linspace(T, n, n - 1 - i)); break;
        case SCHEDULER_TRAILING: t[i] = (int)rint(numpy_arange(T, n, i)) - 1; break;
        case SCHEDULER_QUADRATIC: t[i] = quadratic(T, n, n - 1 - i); break;
        case SCHEDULER_LOGSNR: t[i] = even_in_logsnr(s, n, n - 1 - i); break;
        }
    }
    if (s->config.timestep_spacing > SCHEDULER_TRAILING) move_apart(T, n, t);
    if (t[0] >= T)
        return err_set(e, DDPM_EINVAL, "steps_offset %d: timestep %d is not below num_train_timesteps = %d", offset,
                       t[0], T);
    return DDPM_OK;
}
