/* trainer_fit.h - does a training fit the memory there is, and if not, what would? */
#ifndef DDPM_TRAINER_FIT_H
#define DDPM_TRAINER_FIT_H
#include "train/trainer.h"

size_t trainer_fit_total(trainer_memory need); /* bytes */

/* DDPM_ENOMEM, with gradient checkpointing or else the largest batch in the message, whichever fits, where `need` of a
 * trainer made by spec is more than the backend has free.  Backends that cannot tell let everything pass. */
DDPM_MUST_CHECK ddpm_status trainer_fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e);

/* The same of what it needs at least, without its workspaces: before anything is prepared or timed. */
DDPM_MUST_CHECK ddpm_status trainer_fit_sketch(model *m, const trainer_spec *spec, err *e);

#endif
