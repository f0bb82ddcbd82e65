/* sampler_ddpm.c - ancestral sampling (Ho et al. 2020, algorithm 2) as a table of rows. */
#include "base/mem.h"
#include "diffusion/objective.h"
#include "diffusion/sampler.h"

#include <math.h>

/* The last step, to the clean image, adds no noise; elsewhere the posterior variance is clamped above 0. */
static double deviation(const schedule *s, int prev, const posterior *q)
{
    if (prev < 0) return 0;
    return sqrt(s->config.variance_type == SCHEDULER_FIXED_LARGE ? q->beta : fmax(q->variance, 1e-20));
}

static sampler_row row_of(const schedule *s, int t, int prev)
{
    const posterior q = schedule_posterior(s, t, prev);
    const objective_inverse x0 = objective_to_x0(s, t);
    return (sampler_row){.t = (float)t,
                         .c_skip = (float)x0.c_skip,
                         .c_out = (float)x0.c_out,
                         .a = (float)q.x_weight,
                         .b = (float)q.x0_weight,
                         .s = (float)deviation(s, prev, &q),
                         .clip = s->config.clip_sample ? (float)s->config.clip_sample_range : 0,
                         .slot = -1,
                         .guidance = 1,
                         .signal = (float)sqrt(schedule_abar(s, prev)),
                         .noise = (float)sqrt(1 - schedule_abar(s, prev))};
}

sampler_spec sampler_spec_of(const scheduler_config *c, int steps)
{
    (void)c;
    return (sampler_spec){.kind = SAMPLER_DDPM, .steps = steps, .churn_max = INFINITY, .churn_noise = 1};
}

scheduler_config sampler_config(sampler_kind k, const scheduler_config *of_folder)
{
    (void)k;
    return *of_folder;
}

ddpm_status sampler_resample(const schedule *s, sampler_table **t, int jump_length, int jump_n_sample, err *e)
{
    (void)s, (void)t, (void)jump_length, (void)jump_n_sample;
    return err_set(e, DDPM_EINVAL, "not yet");
}

const char *sampler_advice(const schedule *s, const sampler_spec *spec) { return (void)s, (void)spec, NULL; }

ddpm_status sampler_create(const schedule *s, const sampler_spec *spec, sampler_table **out, err *e)
{
    const int n = spec->steps ? spec->steps : s->timesteps;
    sampler_table *table = NULL;
    int *t = NULL;
    ddpm_status st = DDPM_OK;
    *out = NULL;
    if (n < 1 || n > s->timesteps)
        return err_set(e, DDPM_EINVAL, "num_inference_steps %d is not in [1, %d]", n, s->timesteps);
    TRY_GOTO(mem_array(&t, (size_t)n, sizeof *t, "sampler", e));
    TRY_GOTO(mem_array(&table, 1, sizeof *table, "sampler", e));
    TRY_GOTO(mem_array(&table->rows, (size_t)n, sizeof *table->rows, "sampler", e));
    TRY_GOTO(schedule_respace(s, n, t, e));
    for (int i = 0; i < n; i++) table->rows[i] = row_of(s, t[i], i + 1 < n ? t[i + 1] : -1);
    table->n = n;
    table->init = 1;
    table->signal = sqrt(s->abar[t[0]]), table->noise = sqrt(1 - s->abar[t[0]]);
    *out = table;
    table = NULL;
done:
    mem_free(t);
    sampler_destroy(table);
    return st;
}
