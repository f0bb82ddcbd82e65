/* sampler_heun.c - second order by two evaluations a step, one slot. */
#include "diffusion/sampler_draft.h"

/* Karras et al. 2022 (arXiv:2206.00364), algorithm 1, and with churn algorithm 2, in which a step begins with noise: the
 * row before adds it.  d->levels are those without that noise; `lift` gives the level with it.  What is kept is
 * h = x + dt/2 d in the scale x / al, so that the second row is h + dt/2 d'. */
static void heun(sampler_draft *d, level (*lift)(sampler_draft *d, double sigma_hat))
{
    for (int i = 0; i < d->n && !d->st; i++) {
        const level *from = &d->levels[i], *M = from + 1;
        const double sigma_hat = draft_churned(d, level_sigma(from));
        const level L = sigma_hat > level_sigma(from) ? lift(d, sigma_hat) : *from;
        const double half = (level_sigma(M) - level_sigma(&L)) / 2;
        const pair step = level_move(&L, M), eps = level_eps(&L);
        if (i == 0 && L.sg != from->sg) { /* the noise of the first step is a part of x_T's */
            const double over =
                d->spec->churn_noise * sqrt(sigma_hat * sigma_hat - level_sigma(from) * level_sigma(from));
            d->init = L.al * hypot(d->init / from->al, over);
        }
        draft_row *r = draft_add(d, &L);
        r->a = step.a, r->b = step.b;
        if (i + 1 == d->n) return;
        r->p = 1 / L.al + half * eps.a, r->q = half * eps.b, r->slot = 0;

        const double next_hat = draft_churned(d, level_sigma(M)), sigma = level_sigma(M);
        const level U = next_hat > sigma ? lift(d, next_hat) : *M;
        const pair eps_there = level_eps(M);
        r = draft_add(d, M);
        r->a = U.al * half * eps_there.a, r->b = U.al * half * eps_there.b, r->w[0] = U.al;
        r->s = U.al * d->spec->churn_noise * sqrt(fmax(next_hat * next_hat - sigma * sigma, 0));
    }
}

static level lift_vp(sampler_draft *d, double sigma_hat) { return level_vp(d, sigma_hat, draft_time_at(d, sigma_hat)); }

void fill_heun(sampler_draft *d)
{
    draft_levels_k(d);
    heun(d, lift_vp);
}

/* Algorithm 2 begins at sigma_max, where diffusers' EDM classes begin at sqrt(1 + sigma_max^2). */
void fill_edm(sampler_draft *d)
{
    draft_levels_edm(d);
    if (d->st) return;
    d->levels[d->n] = LEVEL_CLEAN;
    d->init = d->levels[0].sg;
    heun(d, level_of_sigma);
}

/* k-diffusion's DPM-Solver-2: the midpoint in log sigma, and in its ancestral variant noise up from sigma_down. */
void fill_dpm2(sampler_draft *d)
{
    const bool ancestral = d->c->type == SCHEDULER_CLASS_DPM2_A;
    draft_levels_k(d);
    for (int i = 0; i + 1 < d->n && !d->st; i++) {
        const level *L = &d->levels[i], *M = L + 1;
        const double from = level_sigma(L), to = level_sigma(M), down = ancestral ? to * to / from : to;
        const level H = level_vp(d, sqrt(from * down), draft_time_at(d, sqrt(from * down)));
        const double dt = M->al * (down - from);
        const pair step = level_move(L, &H), eps = level_eps(&H);
        draft_row *r = draft_add(d, L);
        r->a = step.a, r->b = step.b;
        r->p = 1 / L->al, r->slot = 0;
        r = draft_add(d, &H);
        r->a = dt * eps.a, r->b = dt * eps.b, r->w[0] = M->al;
        if (ancestral) r->s = M->al * to * sqrt(fmax(1 - to / from * (to / from), 0));
    }
    if (d->st) return;
    draft_add(d, &d->levels[d->n - 1])->b = 1;
}
