#include "train/recipe_variance.h"

bool recipe_learns_variance(const ddpm_config *c)
{
    return c->diffusion.variance_type == DIFFUSION_VARIANCE_TYPE_LEARNED_RANGE &&
           c->diffusion.parameterization == DIFFUSION_PARAMETERIZATION_DDPM;
}

/* The factors of improved-diffusion: T for L_vlb, of whose T terms one is drawn; else T / 1000 or 1. */
void recipe_set_variance(const ddpm_config *c, objective *o)
{
    const double T = c->diffusion.num_train_timesteps;
    o->learned = recipe_learns_variance(c);
    o->kl = c->train.use_kl;
    if (c->train.use_kl)
        o->bound = T;
    else
        o->bound = c->train.rescale_learned_sigmas ? T / 1000 : 1;
}

ddpm_status recipe_check_variance(const network *net, const scheduler_config *s, notes *remarks, err *e)
{
    const int in = net->unet.in_channels, out = net->unet.out_channels;
    const bool learned = s->variance_type == SCHEDULER_LEARNED_RANGE && process_of(s) == PROCESS_BETAS;
    if (learned && out != 2 * in)
        return err_set(
            e, DDPM_EINVAL,
            "diffusion.variance_type=learned_range needs a network with %d output channels, but this one has "
            "%d; set diffusion.variance_type=fixed_small",
            2 * in, out);
    if (!learned && out == 2 * in)
        return err_set(e, DDPM_EINVAL,
                       "the network has %d output channels, the second half of them for a learned variance; set "
                       "diffusion.variance_type=learned_range",
                       out);
    if (learned)
        notes_add(remarks,
                  "in diffusers, DDPMScheduler samples from a network with a learned variance, and DPMSolver if "
                  "it predicts eps of colour images; DDIM, Euler and UniPC do not split its output");
    return DDPM_OK;
}
