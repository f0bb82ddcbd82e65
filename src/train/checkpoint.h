/* checkpoint.h - a training run on disk: a diffusers pipeline folder, and beside it in training/ all
 * that is needed to go on as if nothing had happened.
 *
 *   model_index.json unet/ scheduler/       the EMA weights (the raw ones where there is no EMA)
 *   training/weights.safetensors            the raw weights, where there is an EMA
 *   training/exp_avg.safetensors            Adam's moments, as torch.optim calls them
 *   training/exp_avg_sq.safetensors
 *   training/state.json                     counters, seed, and what bitwise resuming depends on
 *   training/config.yaml                    the run's options
 *   training/integrity.json                 size and hash of every file
 */
#ifndef DDPM_CHECKPOINT_H
#define DDPM_CHECKPOINT_H
#include "core/config.h"
#include "train/trainer.h"

/* What a run is made of besides its numbers; kept to say when a resumed run may differ in the last bit. */
typedef struct checkpoint_facts {
    uint64_t dataset_hash;
    char machine[160]; /* threads, library and instruction set, from the backend */
} checkpoint_facts;

/* Write ckpt_dir/step_XXXXXXXX as one transaction, then drop all but the newest `keep`.
 * On failure the older checkpoints are as they were. */
DDPM_MUST_CHECK ddpm_status checkpoint_save(const char *ckpt_dir, const model *m, trainer *t, const ddpm_config *config,
                                            const checkpoint_facts *facts, err *e);

/* Load one checkpoint folder into a trainer that has memory.  DDPM_EDATA: not one of a training run, or of
 * another network; the trainer is then not to be used. */
DDPM_MUST_CHECK ddpm_status checkpoint_restore(const char *dir, model *m, trainer *t, checkpoint_facts *facts, err *e);

#endif
