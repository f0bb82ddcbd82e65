/* trainer_fit.h - checks whether a training fits into memory, and suggests one that does. */
#ifndef DDPM_TRAINER_FIT_H
#define DDPM_TRAINER_FIT_H
#include "train/trainer.h"

size_t trainer_fit_total(trainer_memory need); /* bytes */

/* DDPM_ENOMEM: `need` of a trainer created by `spec` exceeds the backend's free memory; the message suggests gradient
 * checkpointing if that fits, else the largest batch that fits.  Always DDPM_OK if the backend's free memory is
 * unknown. */
DDPM_MUST_CHECK ddpm_status trainer_fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e);

/* As trainer_fit_check() for the minimum need, without workspaces: before any step is prepared or autotuned. */
DDPM_MUST_CHECK ddpm_status trainer_fit_sketch(model *m, const trainer_spec *spec, err *e);

#endif
