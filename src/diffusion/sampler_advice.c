#include "diffusion/sampler.h"

static bool is_cosine(const scheduler_config *c)
{
    return c->beta_schedule == SCHEDULER_SQUAREDCOS_CAP_V2 && c->n_trained_betas == 0;
}

/* At the last timesteps of cosine betas x_t holds x_0 with a signal of 5e-5: eps says next to nothing of it there. */
static bool begins_without_signal(const scheduler_config *c, const sampler_info *info)
{
    return is_cosine(c) && c->prediction_type == SCHEDULER_EPSILON && info->reads & SAMPLER_READS_SPACING &&
           c->timestep_spacing != SCHEDULER_LEADING && !c->clip_sample && !c->thresholding &&
           !(c->lambda_min_clipped > -8);
}

const char *sampler_advice(const schedule *s, const sampler_spec *spec)
{
    const scheduler_config *c = &s->config;
    const sampler_info *info = sampler_info_of(spec->kind);
    const int T = s->timesteps, steps = spec->steps ? spec->steps : T;
    if (spec->kind == SAMPLER_DDPM && c->variance_type == SCHEDULER_FIXED_LARGE && 2 * steps < T)
        return "ddpm with variance_type fixed_large leaves noise in the images with so few steps; "
               "use variance_type=fixed_small, ddim or dpmpp_2m";
    if (spec->kind == SAMPLER_DPM_3S && process_of(c) == PROCESS_FLOW)
        return "dpm_3s does not converge on a flow, whose first level has no signal; use dpmpp_2m or dpmpp_3m";
    if (is_cosine(c) && c->sigmas && info->reads & SAMPLER_READS_SIGMAS && !c->use_flow_sigmas)
        return "karras, exponential, beta and lu sigmas spend most steps on pure noise with squaredcos_cap_v2 betas; "
               "use sigmas=none";
    if (begins_without_signal(c, info))
        return "with squaredcos_cap_v2 betas, prediction_type epsilon says nothing of the image at the first step; "
               "use timestep_spacing=leading or clip_sample=true";
    if (steps == 1 && T > 1 && info->reads & SAMPLER_READS_SPACING && c->timestep_spacing != SCHEDULER_TRAILING &&
        info->max_order == 0 && spec->kind != SAMPLER_DDIM_INVERSE)
        return "one step begins at timestep 0, where images have next to no noise; use timestep_spacing=trailing";
    return NULL;
}
