/* sampler_levels.c - the levels of noise that samplers visit, spaced as diffusers spaces them. */
#include "base/mem.h"
#include "diffusion/objective.h"
#include "diffusion/sampler_draft.h"

/* ---- one level ---- */

/* The mean of the reverse step is known for the steps of training alone. */
static pair from_mu(sampler_draft *d, double t, double sg)
{
    const int at = (int)t;
    if (at != t || at < 0 || at >= d->s->timesteps || fabs(sg * sg - (1 - d->s->abar[at])) > 1e-9) {
        draft_fail(d,
                   "prediction_type mu is known at whole timesteps alone, not at t = %g; use "
                   "timestep_spacing=leading or trailing, and sigmas=none",
                   t);
        return (pair){0, 1};
    }
    const objective_inverse x0 = objective_to_x0(d->s, at);
    return (pair){x0.c_skip, x0.c_out};
}

level level_at(sampler_draft *d, double t, double al, double sg)
{
    pair x0 = {1 / al, -sg / al};
    switch (d->c->prediction_type) {
    case SCHEDULER_EPSILON: break;
    case SCHEDULER_SAMPLE: x0 = (pair){0, 1}; break;
    case SCHEDULER_V_PREDICTION: x0 = (pair){al, -sg}; break;
    case SCHEDULER_FLOW: x0 = (pair){1 / (al + sg), -sg / (al + sg)}; break;
    case SCHEDULER_MU: x0 = from_mu(d, t, sg); break;
    }
    return (level){t, al, sg, x0.a, x0.b};
}

level level_vp(sampler_draft *d, double sigma, double t)
{
    return level_at(d, t, 1 / hypot(1, sigma), sigma / hypot(1, sigma));
}

level level_of_timestep(sampler_draft *d, int t, double abar_of_image)
{
    if (t >= 0) return level_at(d, t, sqrt(d->s->abar[t]), sqrt(1 - d->s->abar[t]));
    return (level){t, sqrt(abar_of_image), sqrt(1 - abar_of_image), 1, 0};
}

level level_of_sigma(sampler_draft *d, double sigma)
{
    if (d->c->precond == SCHEDULER_PRECOND_VP) return level_vp(d, sigma, (d->s->timesteps - 1) * vp_time(d->c, sigma));
    if (d->c->precond == SCHEDULER_PRECOND_VE) return (level){log(sigma / 2), 1, sigma, 1, sigma};
    const double data = d->c->sigma_data, c_in = 1 / hypot(sigma, data);
    const double sign = d->c->prediction_type == SCHEDULER_V_PREDICTION ? -1 : 1;
    return (level){log(sigma) / 4, c_in, sigma * c_in, data * data * c_in, sign * sigma * data * c_in};
}

double draft_sigma_at(const sampler_draft *d, double t)
{
    const int last = d->s->timesteps - 1, low = t >= last ? last : t <= 0 ? 0 : (int)t;
    const double *s = d->sigma;
    return low == last ? s[last] : s[low] + (s[low + 1] - s[low]) * fmax(t - low, 0);
}

double draft_time_at(const sampler_draft *d, double sigma)
{
    const double *s = d->sigma;
    int low = 0, high = d->s->timesteps - 1;
    if (sigma <= s[low]) return low;
    if (sigma >= s[high]) return high;
    while (high - low > 1) {
        const int middle = (low + high) / 2;
        *(s[middle] <= sigma ? &low : &high) = middle;
    }
    return low + log(sigma / s[low]) / log(s[high] / s[low]);
}

/* ---- which timesteps ---- */

static bool allocate(sampler_draft *d, int n)
{
    if (!d->st) d->st = mem_array(&d->levels, (size_t)n + 1, sizeof *d->levels, "sampler", d->e);
    return d->st == DDPM_OK;
}

/* The first levels and timesteps are left out: those of an image that is not noise alone. */
static void drop_first(sampler_draft *d)
{
    const int skip = d->spec->skip;
    d->n -= skip;
    for (int i = 0; skip && i <= d->n; i++) {
        if (d->levels) d->levels[i] = d->levels[i + skip];
        if (d->timesteps && i < d->n) d->timesteps[i] = d->timesteps[i + skip];
    }
}

void draft_timesteps(sampler_draft *d)
{
    if (!d->st) d->st = mem_array(&d->timesteps, (size_t)d->steps, sizeof *d->timesteps, "sampler", d->e);
    if (!d->st) d->st = schedule_respace(d->s, d->steps, d->timesteps, d->e);
    if (d->st) return;
    d->n = d->steps;
    drop_first(d);
}

static bool own_spacing(const sampler_draft *d)
{
    return d->c->timestep_spacing == SCHEDULER_QUADRATIC || d->c->timestep_spacing == SCHEDULER_LOGSNR;
}

bool draft_steps_evenly(const sampler_draft *d) { return d->spec->as_diffusers && !own_spacing(d); }

int draft_next_timestep(const sampler_draft *d, int i)
{
    if (draft_steps_evenly(d)) return d->timesteps[i] - d->s->timesteps / d->steps;
    return i + 1 < d->n ? d->timesteps[i + 1] : -1;
}

/* The n + more timesteps below `last`, without the `more` lowest, into t[n]: numpy's expressions of diffusers'
 * set_timesteps(), with its roundings.  Returns their number: fewer for the trailing spacing with last < T. */
static int space(sampler_draft *d, int n, int more, int last, double *t)
{
    const int T = d->s->timesteps, count = n + more;
    const double offset = d->c->steps_offset, step = (double)T / n;
    for (int i = 0; i < n; i++) {
        const int up = count - 1 - i; /* rank from the lowest */
        switch (d->c->timestep_spacing) {
        case SCHEDULER_LEADING: t[i] = (double)up * (last / count) + offset; break;
        case SCHEDULER_TRAILING:
            if (last - i * step <= 0) return i;
            t[i] = fmax(rint(last - i * step) - 1, 0);
            break;
        default: t[i] = i == 0 ? last - 1 : up * ((double)(last - 1) / (count - 1)); break;
        }
    }
    return n;
}

static int space_as_configured(sampler_draft *d, int more, int last, double *t)
{
    const int n = d->steps;
    int *whole = NULL;
    if (!own_spacing(d)) return space(d, n, more, last, t);
    if (!d->st) d->st = mem_array(&whole, (size_t)(n + more), sizeof *whole, "sampler", d->e);
    if (!d->st) d->st = schedule_respace(d->s, n + more, whole, d->e);
    for (int i = 0; i < n && !d->st; i++) t[i] = whole[i];
    mem_free(whole);
    return n;
}

int draft_max_steps(const sampler_draft *d)
{
    const int T = d->s->timesteps;
    switch (d->c->type) {
    case SCHEDULER_CLASS_LCM:
    case SCHEDULER_CLASS_TCD: return d->c->original_inference_steps < T ? d->c->original_inference_steps : T;
    case SCHEDULER_CLASS_DEIS:
    case SCHEDULER_CLASS_DPM_MULTISTEP:
    case SCHEDULER_CLASS_DPM_SINGLESTEP:
    case SCHEDULER_CLASS_UNIPC:
    case SCHEDULER_CLASS_SA: /* all but the lowest timestep */
        if (d->c->sigmas || d->c->use_flow_sigmas || d->c->timestep_spacing == SCHEDULER_TRAILING) return T;
        return T > 1 ? T - 1 : 1;
    default: return T;
    }
}

static bool in_range(sampler_draft *d, const double *t, int n)
{
    const int T = d->s->timesteps;
    if (n > 0 && t[0] >= T)
        draft_fail(d, "steps_offset %d: timestep %g is not below num_train_timesteps = %d", d->c->steps_offset, t[0],
                   T);
    return d->st == DDPM_OK;
}

/* ---- k-diffusion's ---- */

void draft_levels_k(sampler_draft *d)
{
    const int n = d->steps;
    double *t = NULL;
    if (!d->st) d->st = mem_array(&t, (size_t)n, sizeof *t, "sampler", d->e);
    if (d->st || !allocate(d, n)) goto done;
    d->n = space_as_configured(d, 0, d->s->timesteps, t);
    if (!in_range(d, t, d->n)) goto done;
    for (int i = 0; i < n && d->c->prediction_type == SCHEDULER_MU; i++) t[i] = rint(t[i]); /* from_mu() needs it */
    const double high = draft_sigma_at(d, t[0]), low = draft_sigma_at(d, t[n - 1]);
    for (int i = 0; i < n; i++) {
        double sigma = draft_sigma_at(d, t[i]), at = t[i];
        if (d->c->sigmas) {
            sigma = sigma_spaced(d->c->sigmas, high, low, 7, i, n);
            at = draft_time_at(d, sigma);
            const bool whole = d->c->type == SCHEDULER_CLASS_DPM2 || d->c->type == SCHEDULER_CLASS_DPM2_A;
            if (whole && d->c->sigmas == SCHEDULER_SIGMAS_KARRAS) at = rint(at);
        }
        d->levels[i] = level_vp(d, sigma, at);
    }
    d->levels[n] = LEVEL_CLEAN;
    const bool unit = d->c->timestep_spacing != SCHEDULER_LINSPACE && d->c->timestep_spacing != SCHEDULER_TRAILING;
    d->init = unit ? 1 : d->levels[0].sg;
    drop_first(d);
done:
    mem_free(t);
}

/* ---- DPM-Solver's ---- */

/* Timesteps with lambda >= lambda_min_clipped. */
static int clipped_timesteps(const sampler_draft *d)
{
    int n = 0;
    while (n < d->s->timesteps && -log(d->sigma[n]) >= d->c->lambda_min_clipped) n++;
    return n;
}

static void flow_levels(sampler_draft *d)
{
    const int n = d->n, T = d->s->timesteps;
    const bool unipc = d->c->type == SCHEDULER_CLASS_UNIPC;
    if (T < 2) draft_fail(d, "a flow needs num_train_timesteps of 2 or more");
    for (int i = 0; i < n; i++) {
        const double down = (1 - 1.0 / T) * i / n; /* from 1, or to 0 */
        double sigma = flow_shifted(unipc ? 1 - down : (1 - 1.0 / T) - down, d->c->flow_shift);
        if (i == 0 && fabs(sigma - 1) < 1e-6) sigma -= 1e-6; /* the logarithm of al is needed */
        d->levels[i] = level_at(d, floor(sigma * T + 1e-9), 1 - sigma, sigma);
    }
}

/* Noise levels over the whole training range; t is made whole as the class does, where it lies beside a whole number
 * by a rounding error that number. */
static void levels_of_sigmas(sampler_draft *d)
{
    const int n = d->n, T = d->s->timesteps;
    const bool even = d->c->sigmas == SCHEDULER_SIGMAS_KARRAS || d->c->sigmas == SCHEDULER_SIGMAS_LU;
    const bool truncated = d->c->type == SCHEDULER_CLASS_DPM_MULTISTEP &&
                           d->c->beta_schedule == SCHEDULER_SQUAREDCOS_CAP_V2 && d->c->n_trained_betas == 0;
    for (int i = 0; i < n; i++) {
        const double sigma = sigma_spaced(d->c->sigmas, d->sigma[T - 1], d->sigma[0], 7, i, n);
        const double t = draft_time_at(d, sigma);
        d->levels[i] = level_vp(d, sigma, even && !truncated ? rint(t) : floor(t + 1e-9));
    }
}

/* The level where the last step ends: the image, the lowest timestep, or with sigmas of their own the lowest of them
 * again. */
static level dpm_end(sampler_draft *d)
{
    const bool own = d->c->type == SCHEDULER_CLASS_DEIS || d->c->type == SCHEDULER_CLASS_SA;
    if (!own && d->c->final_sigmas_type == SCHEDULER_FINAL_ZERO) return LEVEL_CLEAN;
    if (d->c->use_flow_sigmas || (own && d->c->sigmas)) return d->levels[d->n - 1];
    return level_vp(d, d->sigma[0], 0);
}

void draft_levels_dpm(sampler_draft *d)
{
    const int n = d->steps, T = d->s->timesteps;
    double *t = NULL;
    d->n = n;
    if (d->c->use_flow_sigmas && d->c->sigmas)
        draft_fail(d,
                   "the model is a flow, whose noise levels follow from its shift (use_flow_sigmas); %s sigmas cannot "
                   "take their place: set sigmas=none, or sampler=flow_euler, which can",
                   scheduler_sigmas_name(d->c->sigmas));
    if (!d->st) d->st = mem_array(&t, (size_t)n, sizeof *t, "sampler", d->e);
    if (d->st || !allocate(d, n)) goto done;
    if (d->c->use_flow_sigmas) {
        flow_levels(d);
    } else if (d->c->sigmas) {
        levels_of_sigmas(d);
    } else {
        const int last = own_spacing(d) ? T : clipped_timesteps(d);
        if (last < 2 && n > 1) draft_fail(d, "lambda_min_clipped %g leaves no timestep", d->c->lambda_min_clipped);
        d->n = space_as_configured(d, T > 1, last, t);
        if (!in_range(d, t, d->n)) goto done;
        for (int i = 0; i < d->n; i++) {
            const double whole = rint(t[i]);
            d->levels[i] = level_vp(d, draft_sigma_at(d, whole), whole);
        }
    }
    d->levels[d->n] = dpm_end(d);
    if (d->spec->skip >= d->n) draft_fail(d, "skip %d is not below the number of steps, %d", d->spec->skip, d->n);
    if (!d->st) drop_first(d);
done:
    mem_free(t);
}

/* ---- processes of their own ---- */

static double highest_sigma(const scheduler_config *c)
{
    return c->precond == SCHEDULER_PRECOND_VP ? vp_sigma(c, 1) : c->sigma_max;
}

/* The i-th of n sigmas; without a rule, as the process has them: Karras et al. 2022, table 1, "time steps". */
static double spaced_sigma(const scheduler_config *c, int i, int n)
{
    const bool vp = c->precond == SCHEDULER_PRECOND_VP, ve = c->precond == SCHEDULER_PRECOND_VE;
    const double low = vp ? vp_sigma(c, c->sampling_eps) : c->sigma_min;
    const scheduler_sigmas kind = ve && !c->sigmas ? SCHEDULER_SIGMAS_EXPONENTIAL : c->sigmas;
    if (vp && !c->sigmas) return vp_sigma(c, n > 1 ? 1 + (c->sampling_eps - 1) * i / (n - 1) : 1);
    return sigma_spaced(kind, highest_sigma(c), low, c->rho, i, n);
}

void draft_levels_edm(sampler_draft *d)
{
    const scheduler_config *c = d->c;
    const bool eps_only = c->precond != SCHEDULER_PRECOND_EDM;
    if (c->prediction_type != SCHEDULER_EPSILON && (eps_only || c->prediction_type != SCHEDULER_V_PREDICTION))
        draft_fail(d, "prediction_type %s; it needs epsilon%s", scheduler_prediction_name(c->prediction_type),
                   eps_only ? "" : " or v_prediction");
    if (!(c->sigma_min < c->sigma_max))
        draft_fail(d, "sigma_min %g is not below sigma_max %g", c->sigma_min, c->sigma_max);
    if (d->st || !allocate(d, d->steps)) return;
    d->n = d->steps;
    for (int i = 0; i < d->n; i++) d->levels[i] = level_of_sigma(d, spaced_sigma(c, i, d->n));
    d->levels[d->n] = LEVEL_CLEAN; /* or in the image's scale, its signal 1, the lowest sigma again */
    if (c->final_sigmas_type == SCHEDULER_FINAL_SIGMA_MIN) d->levels[d->n].sg = level_sigma(&d->levels[d->n - 1]);
    d->init = d->levels[0].al * hypot(1, highest_sigma(c));
    drop_first(d);
}

/* FlowMatchEulerDiscreteScheduler: its lowest sigma is shifted twice. */
void draft_levels_flow(sampler_draft *d)
{
    const int n = d->steps, T = d->s->timesteps;
    if (d->c->prediction_type != SCHEDULER_FLOW)
        draft_fail(d, "prediction_type %s; it needs flow_prediction", scheduler_prediction_name(d->c->prediction_type));
    if (d->st || !allocate(d, n)) return;
    d->n = n;
    const double shift = d->c->flow_shift, low = flow_shifted(1.0 / T, shift);
    for (int i = 0; i < n; i++) {
        const double even = flow_shifted(n > 1 ? 1 + (low - 1) * i / (n - 1) : 1, shift);
        const double sigma = d->c->sigmas ? sigma_spaced(d->c->sigmas, 1, flow_shifted(low, shift), 7, i, n) : even;
        d->levels[i] = level_at(d, T * sigma, 1 - sigma, sigma);
    }
    d->levels[n] = LEVEL_CLEAN;
    drop_first(d);
}
