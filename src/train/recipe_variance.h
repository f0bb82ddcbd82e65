/* recipe_variance.h - training of the variance of the reverse steps: diffusion.variance_type=learned_range. */
#ifndef DDPM_RECIPE_VARIANCE_H
#define DDPM_RECIPE_VARIANCE_H
#include "config/config.h"
#include "diffusion/objective.h"
#include "model/network.h"

/* Does the network have a second half of output channels for the variance? */
bool recipe_learns_variance(const ddpm_config *c);
/* Sets how the variance is trained. */
void recipe_set_variance(const ddpm_config *c, objective *o);
/* DDPM_EINVAL: the network, which may be that of model.init_from, has another number of output channels than the variance
 * needs.  Noted: which schedulers of diffusers cannot sample from it. */
DDPM_MUST_CHECK ddpm_status recipe_check_variance(const network *net, const scheduler_config *s, notes *remarks,
                                                  err *e);

#endif
