/* adopted_scheduler.h - what a run that begins with model.init_from keeps of the folder's scheduler. */
#ifndef DDPM_ADOPTED_SCHEDULER_H
#define DDPM_ADOPTED_SCHEDULER_H
#include "base/notes.h"
#include "io/scheduler_config.h"

/* `process`, the scheduler of the options, with the folder's settings of sampling that no option of training has:
 * timesteps, noise levels, thresholding, stochastic steps; each only if its class has that key. */
scheduler_config adopted_scheduler(const scheduler_config *process, const scheduler_config *of_folder);

/* Note it if the checkpoints of the run will name another class than the folder, which has settings of its own. */
void adopted_scheduler_note(const scheduler_config *saved, const scheduler_config *of_folder, notes *remarks);

#endif
