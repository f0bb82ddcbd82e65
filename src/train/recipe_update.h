/* recipe_update.h - translation of the options of the optimizer, its learning rate and the averages of the weights. */
#ifndef DDPM_RECIPE_UPDATE_H
#define DDPM_RECIPE_UPDATE_H
#include "config/config.h"
#include "train/trainer.h"

/* Set spec->update.  `steps`: length of the whole run.  The options must have passed config_check(). */
void recipe_update(const ddpm_config *c, int64_t steps, trainer_spec *spec);

/* The averages of a run, the one to sample with first; returns their number. */
int recipe_averages(const ddpm_config *c, ema_rule rules[EMA_MOST]);

#endif
