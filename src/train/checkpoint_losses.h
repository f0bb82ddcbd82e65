/* checkpoint_losses.h - the history of losses in a checkpoint, by which levels are drawn (kernels/loss_history.h):
 * training/losses.safetensors, with the tensor "losses" F32 [levels, HISTORY_COLUMNS]. */
#ifndef DDPM_CHECKPOINT_LOSSES_H
#define DDPM_CHECKPOINT_LOSSES_H
#include "train/trainer.h"

/* Nothing, if the trainer has no history. */
DDPM_MUST_CHECK ddpm_status losses_save(const char *dir, trainer *t, err *e);
/* The history begins anew if the checkpoint has none, or one of another number of levels: the run drew them otherwise.
 * DDPM_EDATA: a file that holds no history. */
DDPM_MUST_CHECK ddpm_status losses_restore(const char *dir, trainer *t, err *e);

#endif
