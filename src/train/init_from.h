/* init_from.h - what a run takes over from the pipeline folder of model.init_from.
 *
 * The weights mean something only with what they were trained for: the process that noised the images and what the
 * network predicts.  So the folder's own values stand for the options of the diffusion section, and for model.dropout,
 * where neither a file nor the command line sets them. */
#ifndef DDPM_INIT_FROM_H
#define DDPM_INIT_FROM_H
#include "config/config.h"
#include "model/model.h"

/* The folder's network and scheduler, and *c with the folder's values in those options; origins stay "default".
 * Noted: what was taken and differs from the default; what stays as set and differs from the folder; options of the
 * network that are set and have no effect.  Doing it twice is doing it once.
 * DDPM_EINVAL: a value of the folder is out of the option's range, or does not go with what is set.
 * Else model_read_configs()'s errors. */
DDPM_MUST_CHECK ddpm_status init_from_take(ddpm_config *c, network *net, scheduler_config *scheduler, notes *remarks,
                                           err *e);

#endif
