/* fit.h - does a training fit the memory there is, and if not, what would? */
#ifndef DDPM_FIT_H
#define DDPM_FIT_H
#include "train/trainer.h"

size_t fit_total(trainer_memory need); /* bytes */

/* DDPM_ENOMEM, with the largest batch that fits in the message, where `need` of a trainer made by spec is
 * more than the backend has free.  Backends that cannot tell let everything pass. */
DDPM_MUST_CHECK ddpm_status fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e);

#endif
