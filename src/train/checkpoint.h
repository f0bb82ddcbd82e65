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
#include "config/config.h"
#include "train/trainer.h"

/* What a run is made of besides its numbers; kept to say when a resumed run may differ in the last bit. */
typedef struct checkpoint_facts {
    uint64_t dataset_hash;
    char machine[160]; /* threads, library and instruction set, from the backend */
} checkpoint_facts;

/* Write ckpt_dir/step_XXXXXXXX as one transaction.  On failure the older checkpoints are as they were. */
DDPM_MUST_CHECK ddpm_status checkpoint_save(const char *ckpt_dir, const model *m, trainer *t, const ddpm_config *config,
                                            const checkpoint_facts *facts, err *e);

/* What resume=path means, into out[PATH_CAP]: `path` itself where it is a checkpoint, the newest whole one of a run or
 * of a folder of checkpoints (what was skipped is in the notes).  It is verified.
 * DDPM_ENOINPUT: nothing is there; DDPM_EDATA: damaged, or no checkpoint of a training. */
DDPM_MUST_CHECK ddpm_status checkpoint_find(const char *path, char *out, notes *n, err *e);

/* Counters, seed and facts of a checkpoint.  DDPM_EDATA: not whole, or written by another version. */
DDPM_MUST_CHECK ddpm_status checkpoint_read_state(const char *dir, train_state *s, checkpoint_facts *facts, err *e);

/* Load the weights and moments of a checkpoint, which was verified, and its state into a trainer that has memory.
 * DDPM_EDATA: of another network; the trainer is then not to be used. */
DDPM_MUST_CHECK ddpm_status checkpoint_restore(const char *dir, const train_state *state, model *m, trainer *t, err *e);

#endif
