/* sampler_one_step.c - samplers that remember nothing: each row goes from one level to the next. */
#include "diffusion/sampler_draft.h"

/* ---- DDPM ---- */

/* The posterior variance is kept above 0, as its logarithm is needed.  The step to the image adds no noise. */
static void set_noise(sampler_draft *d, draft_row *r, const posterior *q, int prev)
{
    const double small = fmax(q->variance, 1e-20);
    if (prev < 0) return;
    switch (d->c->variance_type) {
    case SCHEDULER_FIXED_SMALL: r->s = sqrt(small); return;
    case SCHEDULER_FIXED_LARGE: r->s = sqrt(q->beta); return;
    case SCHEDULER_LEARNED: r->s = 1, r->v = 0.5; return;
    case SCHEDULER_LEARNED_RANGE: /* Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 15 */
        r->s = pow(q->beta * small, 0.25), r->v = log(q->beta / small) / 4;
        return;
    }
}

/* Ho et al. 2020 (arXiv:2006.11239), eq. 7 and algorithm 2, from each timestep to the next. */
void fill_ddpm(sampler_draft *d)
{
    draft_timesteps(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const int t = d->timesteps[i], prev = i + 1 < d->n ? d->timesteps[i + 1] : -1;
        const level L = level_of_timestep(d, t, 1);
        const posterior q = schedule_posterior(d->s, t, prev);
        draft_row *r = draft_add(d, &L);
        r->a = q.x_weight, r->b = q.x0_weight;
        set_noise(d, r, &q, prev);
    }
}

/* ---- DDIM ---- */

static double abar_of_image(const sampler_draft *d) { return d->c->set_alpha_to_one ? 1 : d->s->abar[0]; }

/* eps of the network's own output, unclipped: eps = a x + b F */
static pair raw_eps(const sampler_draft *d, const level *L)
{
    if (d->c->prediction_type == SCHEDULER_EPSILON) return (pair){0, 1};
    if (d->c->prediction_type == SCHEDULER_V_PREDICTION) return (pair){L->sg, L->al};
    if (d->c->prediction_type == SCHEDULER_FLOW) return (pair){1 / (L->al + L->sg), L->al / (L->al + L->sg)};
    return (pair){(1 - L->al * L->c_skip) / L->sg, -L->al * L->c_out / L->sg};
}

/* x' = al' x0_hat + way eps + s xi */
static void ddim_step(const sampler_draft *d, draft_row *r, const level *L, const level *M, double s)
{
    const double way = sqrt(fmax(M->sg * M->sg - s * s, 0));
    r->s = s;
    if (L->sg > 0 && (d->clip == 0 || d->spec->clipped_eps)) {
        const pair eps = level_eps(L);
        r->a = way * eps.a, r->b = M->al + way * eps.b;
    } else {
        const pair eps = raw_eps(d, L);
        r->a = way * eps.a, r->b = M->al, r->e = way * eps.b;
    }
}

/* Song et al. 2021 (arXiv:2010.02502), eq. 12 and 16. */
void fill_ddim(sampler_draft *d)
{
    const double eta = d->spec->eta;
    draft_timesteps(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const level L = level_of_timestep(d, d->timesteps[i], 1),
                    M = level_of_timestep(d, draft_next_timestep(d, i), abar_of_image(d));
        const double s = M.al > 0 ? eta * M.sg / L.sg * sqrt(fmax(1 - L.al * L.al / (M.al * M.al), 0)) : 0;
        ddim_step(d, draft_add(d, &L), &L, &M, s);
    }
}

/* DDIM from the image to noise; the network is told the timestep that the step goes to, as diffusers does.  Where the
 * image itself has no noise, a prediction of x_0 says nothing of eps: such steps begin at the level of timestep 0. */
void fill_ddim_inverse(sampler_draft *d)
{
    draft_timesteps(d);
    const scheduler_prediction p = d->c->prediction_type;
    const bool of_eps = p == SCHEDULER_EPSILON || p == SCHEDULER_V_PREDICTION || p == SCHEDULER_FLOW;
    for (int i = d->n - 1; i >= 0 && !d->st; i--) {
        const int from = draft_next_timestep(d, i);
        const double first = of_eps ? abar_of_image(d) : d->s->abar[0];
        const level M = level_of_timestep(d, d->timesteps[i], 1);
        const level at = from >= 0 ? level_of_timestep(d, from, 1) : level_at(d, 0, sqrt(first), sqrt(1 - first));
        draft_row *r = draft_add(d, &at);
        r->t = M.t;
        ddim_step(d, r, &at, &M, 0);
        d->end = M;
    }
}

/* ---- Euler ---- */

/* Karras et al. 2022 (arXiv:2206.00364), algorithm 2: sigma_hat. */
double draft_churned(const sampler_draft *d, double sigma)
{
    const sampler_spec *q = d->spec;
    const bool within = sigma >= q->churn_min && sigma <= q->churn_max;
    return sigma * (1 + (within ? fmin(q->churn / d->steps, sqrt(2) - 1) : 0));
}

/* Algorithm 2 of Karras et al. by Euler's method, but as in diffusers the noise comes after the network has seen x.
 * *hat: the level whose x0_hat is taken. */
static void euler_step(sampler_draft *d, const level *L, const level *M, const level *hat, double sigma_hat)
{
    draft_row *r = draft_add(d, L);
    const double sigma = level_sigma(L), keep = level_sigma(M) / sigma_hat;
    const double noise = d->spec->churn_noise * sqrt(fmax(sigma_hat * sigma_hat - sigma * sigma, 0));
    if (noise > 0) r->c_skip = hat->c_skip * hat->al / L->al, r->c_out = hat->c_out;
    r->a = M->al / L->al * keep, r->b = M->al * (1 - keep);
    r->s = M->al * noise * (keep + (1 - keep) * r->c_skip * L->al);
}

void fill_euler(sampler_draft *d)
{
    draft_levels_k(d);
    if (d->st) return;
    if (d->c->final_sigmas_type == SCHEDULER_FINAL_SIGMA_MIN) /* in diffusers' scale: the image has signal 1 */
        d->levels[d->n] = (level){.al = 1, .sg = d->sigma[0]};
    for (int i = 0; i < d->n; i++) {
        const level *L = &d->levels[i];
        const double sigma_hat = draft_churned(d, level_sigma(L));
        const bool epsilon = d->c->prediction_type == SCHEDULER_EPSILON;
        const level hat = epsilon ? level_vp(d, sigma_hat, L->t) : *L;
        euler_step(d, L, L + 1, &hat, sigma_hat);
    }
}

void fill_edm_euler(sampler_draft *d)
{
    draft_levels_edm(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const double sigma_hat = draft_churned(d, level_sigma(&d->levels[i]));
        const level hat = level_of_sigma(d, sigma_hat);
        euler_step(d, &d->levels[i], &d->levels[i + 1], &hat, sigma_hat);
    }
}

/* k-diffusion's ancestral step: down to sigma_down, up by noise; sigma_down = sqrt(sigma'^2 - up^2) in closed form. */
void fill_euler_ancestral(sampler_draft *d)
{
    draft_levels_k(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const level *L = &d->levels[i], *M = L + 1;
        const double from = level_sigma(L), to = level_sigma(M), down = to * to / from;
        draft_row *r = draft_add(d, L);
        r->a = M->al * down / L->sg, r->b = M->al * (1 - down / from);
        r->s = M->al * to * sqrt(fmax(1 - to / from * (to / from), 0));
    }
}

/* ---- flows, consistency models and distilled models ---- */

/* A flow's Euler step is level_move(); with stochastic_sampling, x0_hat gets new noise. */
void fill_flow_euler(sampler_draft *d)
{
    draft_levels_flow(d);
    for (int i = 0; i < d->n && !d->st; i++) {
        const level *L = &d->levels[i], *M = L + 1;
        const pair step = level_move(L, M);
        draft_row *r = draft_add(d, L);
        if (d->c->stochastic_sampling)
            r->b = M->al, r->s = M->sg;
        else
            r->a = step.a, r->b = step.b;
    }
}

/* c_skip and c_out of Song et al. 2023 (arXiv:2303.01469), appendix C. */
static level consistency_level(const sampler_draft *d, int i)
{
    const scheduler_config *c = d->c;
    const int T = d->s->timesteps;
    const double data = c->sigma_data, low = c->sigma_min;
    const double sigma = sigma_spaced(SCHEDULER_SIGMAS_KARRAS, c->sigma_max, low, c->rho, i * (T / d->steps), T);
    const double c_in = 1 / hypot(sigma, data), over = sigma - low, scale = over * over + data * data;
    return (level){250 * log(sigma), c_in, c_in * sqrt(fmax(sigma * sigma - low * low, 0)), data * data / scale / c_in,
                   over * data * c_in};
}

/* Its algorithm 1. */
void fill_consistency(sampler_draft *d)
{
    const scheduler_config *c = d->c;
    if (!(c->sigma_min < c->sigma_max))
        draft_fail(d, "sigma_min %g is not below sigma_max %g", c->sigma_min, c->sigma_max);
    for (int i = d->spec->skip; i < d->steps && !d->st; i++) {
        const level L = consistency_level(d, i), M = i + 1 < d->steps ? consistency_level(d, i + 1) : LEVEL_CLEAN;
        draft_row *r = draft_add(d, &L);
        r->b = M.al, r->s = M.sg * c->s_noise;
    }
    d->init = c->sigma_max / hypot(c->sigma_max, c->sigma_data);
}

/* The timestep of step i: of original_inference_steps even ones, n even ones. */
static int distilled_timestep(const sampler_draft *d, int i)
{
    const int of = d->c->original_inference_steps, rank = of - (int)floor((double)of * i / d->steps);
    return rank * (d->s->timesteps / of) - 1;
}

static int first_distilled(sampler_draft *d)
{
    if (d->c->original_inference_steps > d->s->timesteps)
        draft_fail(d, "original_inference_steps %d is more than num_train_timesteps %d", d->c->original_inference_steps,
                   d->s->timesteps);
    return d->spec->skip;
}

/* Luo et al. 2023 (arXiv:2310.04378), algorithm 3: x0_hat = c_skip x + c_out (the network's own x_0). */
void fill_lcm(sampler_draft *d)
{
    for (int i = first_distilled(d); i < d->steps && !d->st; i++) {
        const int t = distilled_timestep(d, i);
        const bool last = i + 1 == d->steps;
        const level L = level_of_timestep(d, t, 1),
                    M = last ? LEVEL_CLEAN : level_of_timestep(d, distilled_timestep(d, i + 1), 1);
        const double at = d->c->timestep_scaling * t, data = 0.5, skip = data * data / (at * at + data * data);
        draft_row *r = draft_add(d, &L);
        r->a = M.al * skip, r->b = M.al * at / hypot(at, data), r->s = M.sg;
    }
}

/* Zheng et al. 2024 (arXiv:2402.19159), algorithm 4: down to floor((1 - gamma) t'), and up to t' by noise. */
void fill_tcd(sampler_draft *d)
{
    const double gamma = d->spec->eta;
    for (int i = first_distilled(d); i < d->steps && !d->st; i++) {
        const level L = level_of_timestep(d, distilled_timestep(d, i), 1);
        const int to = i + 1 < d->steps ? distilled_timestep(d, i + 1) : 0;
        const level down = level_of_timestep(d, (int)floor((1 - gamma) * to), 1), M = level_of_timestep(d, to, 1);
        const double up = to > 0 && gamma > 0 ? M.al / down.al : 1;
        const pair step = level_move(&L, &down);
        draft_row *r = draft_add(d, &L);
        r->a = up * step.a, r->b = up * step.b, r->s = sqrt(fmax(1 - up * up, 0));
    }
}
