#include "diffusion/sampler_draft.h"
#include "base/mem.h"

#include <float.h>
#include <stdarg.h>

void draft_fail(sampler_draft *d, const char *format, ...)
{
    char text[400];
    va_list args;
    if (d->st) return;
    va_start(args, format);
    err_line(text, sizeof text, format, args);
    va_end(args);
    d->st = err_set(d->e, DDPM_EINVAL, "%s: %s", d->info->name, text);
}

draft_row *draft_add(sampler_draft *d, const level *L)
{
    static const draft_row none = {.slot = -1};
    draft_row *r = &d->rows[d->n_rows];
    if (d->n_rows + 1 < d->room) d->n_rows++; /* the last place is for rows after an error */
    *r = none;
    r->t = L->t, r->c_skip = L->c_skip, r->c_out = L->c_out, r->clip = d->clip;
    r->al = L->al, r->sg = L->sg;
    return r;
}

/* ---- after the family's rows ---- */

static bool is_read(const sampler_draft *d, int row)
{
    const int slot = d->rows[row].slot;
    for (int i = row + 1; i < d->n_rows; i++) {
        if (d->rows[i].w[slot] != 0) return true;
        if (d->rows[i].slot == slot) return false;
    }
    return false;
}

/* What nobody reads is not kept, and the slots left are numbered from 0. */
static void drop_stores(sampler_draft *d)
{
    int number[SAMPLER_SLOTS] = {-1, -1, -1, -1};
    for (int i = 0; i < d->n_rows; i++) {
        draft_row *r = &d->rows[i];
        if (r->slot >= 0 && !is_read(d, i)) r->slot = -1;
        if (r->slot < 0)
            r->p = r->q = 0;
        else if (number[r->slot] < 0)
            number[r->slot] = d->slots++;
    }
    for (int i = 0; i < d->n_rows; i++) {
        draft_row *r = &d->rows[i];
        double w[SAMPLER_SLOTS] = {0};
        for (int j = 0; j < SAMPLER_SLOTS; j++)
            if (r->w[j] != 0) w[number[j]] = r->w[j];
        for (int j = 0; j < SAMPLER_SLOTS; j++) r->w[j] = w[j];
        if (r->slot >= 0) r->slot = number[r->slot];
    }
}

static void check_finite(sampler_draft *d, int row)
{
    const draft_row *r = &d->rows[row];
    const struct {
        const char *name;
        double value;
    } all[] = {{"t", r->t},       {"c_skip", r->c_skip}, {"c_out", r->c_out}, {"a", r->a},       {"b", r->b},
               {"e", r->e},       {"s", r->s},           {"w[0]", r->w[0]},   {"w[1]", r->w[1]}, {"w[2]", r->w[2]},
               {"w[3]", r->w[3]}, {"p", r->p},           {"q", r->q},         {"v", r->v}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!(fabs(all[i].value) <= (double)FLT_MAX))
            draft_fail(d,
                       "coefficient %s of evaluation %d of %d (timestep %g, signal %.3g, noise %.3g) is %g; use other "
                       "sigmas, another order or another final noise level",
                       all[i].name, row + 1, d->n_rows, r->t, r->al, r->sg, fabs(all[i].value));
}

/* ---- before them ---- */

static void check_spec(sampler_draft *d)
{
    const sampler_spec *q = d->spec;
    const sampler_info *info = d->info;
    const int T = d->s->timesteps, max = draft_max_steps(d), low = info->min_steps;
    if (d->c->type != info->scheduler)
        draft_fail(d, "it samples with the config of %s, not of %s", scheduler_class_name(info->scheduler),
                   scheduler_class_name(d->c->type));
    d->steps = q->steps ? q->steps : max;
    if (!d->st && (d->steps < low || d->steps > max))
        d->st = low == 1 && max == T
                    ? err_set(d->e, DDPM_EINVAL, "num_inference_steps %d is not in [1, %d]", d->steps, T)
                    : err_set(d->e, DDPM_EINVAL, "num_inference_steps %d is not in [%d, %d], the range of %s", d->steps,
                              low, max, info->name);
    if (q->skip && !info->can_skip) draft_fail(d, "it cannot start from an image with noise");
    if (q->skip < 0 || q->skip > d->steps - low)
        draft_fail(d, "skip %d is not in [0, %d], with %d steps", q->skip, d->steps - low, d->steps);
    if (!(q->eta >= 0 && q->eta <= 1)) draft_fail(d, "eta %g is not in [0, 1]", q->eta);
    if (!(q->churn >= 0 && q->churn_min >= 0 && q->churn_max >= 0 && q->churn_noise >= 0))
        draft_fail(d, "churn %g, from %g to %g, noise %g: one is negative", q->churn, q->churn_min, q->churn_max,
                   q->churn_noise);
}

static void check_order(sampler_draft *d)
{
    const sampler_info *info = d->info;
    const scheduler_config *c = d->c;
    const bool sa = c->type == SCHEDULER_CLASS_SA;
    const int order = sa ? c->predictor_order : c->solver_order;
    if (!info->max_order) return;
    if (order < info->min_order || order > info->max_order)
        draft_fail(d, "order %d is not in [%d, %d]", order, info->min_order, info->max_order);
    if (sa && (c->corrector_order < 0 || c->corrector_order > info->max_order))
        draft_fail(d, "corrector_order %d is not in [0, %d]", c->corrector_order, info->max_order);
}

static void fill_sigma(sampler_draft *d)
{
    const int T = d->s->timesteps;
    if (!d->st) d->st = mem_array(&d->sigma, (size_t)T, sizeof *d->sigma, "sampler", d->e);
    for (int t = 0; t < T && !d->st; t++) {
        const double abar = d->s->abar[t] > 0 ? d->s->abar[t] : 0x1p-24; /* diffusers' substitute at zero SNR */
        d->sigma[t] = sqrt((1 - abar) / abar);
    }
}

ddpm_status draft_create(sampler_draft *d, const schedule *s, const sampler_spec *spec, err *e)
{
    const scheduler_config *c = &s->config;
    *d = (sampler_draft){.s = s, .c = c, .spec = spec, .info = sampler_info_of(spec->kind), .init = 1, .e = e};
    d->end = LEVEL_CLEAN;
    d->clip = c->thresholding ? c->sample_max_value : c->clip_sample ? c->clip_sample_range : 0;
    check_spec(d);
    check_order(d);
    fill_sigma(d);
    d->room = sampler_evaluations(spec->kind, d->steps) + 2;
    if (!d->st) d->st = mem_array(&d->rows, (size_t)d->room, sizeof *d->rows, "sampler", e);
    if (!d->st) d->info->fill(d);
    if (d->st) return d->st;
    drop_stores(d);
    for (int i = 0; i < d->n_rows; i++) check_finite(d, i);
    if (!(fabs(d->init) <= (double)FLT_MAX)) draft_fail(d, "the noise to start from has deviation %g", d->init);
    return d->st;
}

void draft_destroy(sampler_draft *d)
{
    mem_free(d->sigma);
    mem_free(d->levels);
    mem_free(d->timesteps);
    mem_free(d->rows);
}
