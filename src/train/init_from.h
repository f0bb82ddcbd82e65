/* init_from.h - the settings that a run inherits from the pipeline folder of model.init_from.
 *
 * Weights are only valid with the noise schedule and prediction type of their training.  The folder's values therefore
 * replace the options of the diffusion section, and model.dropout, unless a file or the command line sets them. */
#ifndef DDPM_INIT_FROM_H
#define DDPM_INIT_FROM_H
#include "config/config.h"
#include "model/model.h"

/* Read the folder's network and scheduler, and put the folder's values into these options of *c; their origin stays
 * "default".  Noted: inherited values that differ from the default; set options that differ from the folder; set
 * network options that have no effect.  Idempotent.
 * DDPM_EINVAL: a value of the folder is out of the option's range, or conflicts with a set option.
 * Other errors: those of model_read_configs(). */
DDPM_MUST_CHECK ddpm_status init_from_take(ddpm_config *c, network *net, scheduler_config *scheduler, notes *remarks,
                                           err *e);

#endif
