/* sampler_pndm.c - pseudo numerical methods: Liu et al. 2022 (arXiv:2202.09778), eq. 9, 12 and 13.
 *
 * m is the network's output as eps, or as v where it predicts that.  A row keeps one entry, so the x that a Runge-Kutta
 * step began at is taken back out of x. */
#include "diffusion/sampler_draft.h"

static double abar_at(const sampler_draft *d, int t)
{
    if (t < 0) return d->c->set_alpha_to_one ? 1 : d->s->abar[0];
    return d->s->abar[t] > 0 ? d->s->abar[t] : 1 / (1 + d->sigma[t] * d->sigma[t]); /* zero SNR */
}

/* eq. 9: x' = a x + b m, from t to another timestep */
static pair transfer(const sampler_draft *d, int t, int to)
{
    const double from = abar_at(d, t), at = abar_at(d, to), a = sqrt(at / from);
    const double g = (from - at) / (from * sqrt(1 - at) + sqrt(from * (1 - from) * at));
    if (d->c->prediction_type != SCHEDULER_V_PREDICTION) return (pair){a, g};
    return (pair){a + g * sqrt(1 - from), g * sqrt(from)};
}

/* m = a x + b x0_hat */
static pair output_of(const sampler_draft *d, const level *L)
{
    if (d->c->prediction_type == SCHEDULER_V_PREDICTION) return (pair){L->al / L->sg, -1 / L->sg};
    return level_eps(L);
}

/* x' = a x + f m + the slots that the caller adds */
static draft_row *add_row(sampler_draft *d, int t, double a, double f)
{
    const level L = level_of_timestep(d, t, 1);
    const pair m = output_of(d, &L);
    draft_row *r = draft_add(d, &L);
    r->a = a + f * m.a, r->b = f * m.b;
    return r;
}

/* h[slot] <- p x + q m */
static void keep(sampler_draft *d, draft_row *r, int slot, double p, double q)
{
    const level L = {.al = r->al, .sg = r->sg};
    const pair m = output_of(d, &L);
    r->slot = slot, r->p = p + q * m.a, r->q = q * m.b;
}

/* eq. 13: four evaluations from step i to the next, the first of which stays in slot i for the multistep part. */
static void runge_kutta(sampler_draft *d, int i)
{
    const int t = d->timesteps[i], to = d->timesteps[i + 1];
    const int even = d->s->timesteps / d->steps, between = (t - to) / 2 > 0 ? (t - to) / 2 : 1;
    const int half = draft_steps_evenly(d) ? even / 2 : between;
    const int middle = draft_steps_evenly(d) ? to + half : t - half;
    const pair first = transfer(d, t, t - half), second = transfer(d, t, middle), whole = transfer(d, t, to);
    /* the last row's x' = g x + (p x_3 + q m_3) + f/6 (m_1 + m_4) */
    const double p = whole.b / second.b / 3, g = 1 - p * second.a / whole.a, q = whole.b / 3 - g * whole.b;
    draft_row *r = add_row(d, t, first.a, first.b);
    keep(d, r, i, 0, 1);
    r = add_row(d, middle, second.a / first.a, second.b);
    r->w[i] = -second.a * first.b / first.a;
    keep(d, r, 3, 0, 1);
    r = add_row(d, middle, whole.a / second.a, whole.b);
    r->w[3] = -whole.a * second.b / second.a;
    keep(d, r, 3, p, q);
    r = add_row(d, to, g, whole.b / 6);
    r->w[3] = 1, r->w[i] = whole.b / 6;
}

/* eq. 12: Adams-Bashforth of m from step i, with `kept` earlier ones. */
static void linear_multistep(sampler_draft *d, int i, int kept)
{
    static const double weights[4][4] = {
        {1}, {1.5, -0.5}, {23.0 / 12, -16.0 / 12, 5.0 / 12}, {55.0 / 24, -59.0 / 24, 37.0 / 24, -9.0 / 24}};
    const double *c = weights[kept < 3 ? kept : 3];
    const pair step = transfer(d, d->timesteps[i], draft_next_timestep(d, i));
    draft_row *r = add_row(d, d->timesteps[i], step.a, step.b * c[0]);
    for (int j = 1; j < 4 && c[j] != 0; j++) r->w[(kept - j) % 3] = step.b * c[j];
    keep(d, r, kept % 3, 0, 1);
}

/* PLMS: the first step is made twice, the second time with the mean of the outputs at both of its ends. */
static void begin_plms(sampler_draft *d)
{
    const pair step = transfer(d, d->timesteps[0], draft_next_timestep(d, 0));
    linear_multistep(d, 0, 0);
    if (d->n < 2) return;
    const int t = d->timesteps[1];
    const pair again = transfer(d, draft_steps_evenly(d) ? t + d->s->timesteps / d->steps : d->timesteps[0], t);
    draft_row *r = add_row(d, t, again.a / step.a, again.b / 2);
    r->w[0] = again.b / 2 - again.a * step.b / step.a;
}

void fill_pndm(sampler_draft *d)
{
    draft_timesteps(d);
    if (d->st) return;
    if (d->c->skip_prk_steps) {
        begin_plms(d);
        for (int i = 1; i < d->n; i++) linear_multistep(d, i, i);
        return;
    }
    for (int i = 0; i < 3; i++) runge_kutta(d, i);
    for (int i = 3; i < d->n; i++) linear_multistep(d, i, i);
}
