/* checkpoint.h - a training run on disk: a diffusers pipeline folder, and in its training/ all state
 * for resuming the run as if it had not been interrupted.
 *
 *   model_index.json unet/ scheduler/       the first average (the raw weights if the run has no average)
 *   classes.json                            of a network with classes: their names (io/class_names.h)
 *   training/weights.safetensors            the raw weights, if the run has an average
 *   training/ema_1.safetensors, ...         further averages (checkpoint_averages.h)
 *   training/exp_avg.safetensors            Adam's moments, named as in torch.optim
 *   training/exp_avg_sq.safetensors
 *   training/state.json                     counters, seed, and the facts that bitwise resuming depends on
 *   training/config.yaml                    the run's options
 *   training/integrity.json                 size and hash of every file
 */
#ifndef DDPM_CHECKPOINT_H
#define DDPM_CHECKPOINT_H
#include "config/config.h"
#include "train/trainer.h"

/* What is saved beside the train_state: properties of data and machine that decide the last bits, to warn when a resumed
 * run may differ in them, and the count of rollbacks. */
typedef struct checkpoint_facts {
    uint64_t dataset_hash;
    char machine[160];     /* threads, library and instruction set, from the backend */
    uint64_t rollbacks;    /* since a finite step after rollback_end; 0: none */
    uint64_t rollback_end; /* the last of the skipped steps for which the run was rolled back */
} checkpoint_facts;

/* Write ckpt_dir/step_XXXXXXXX as one transaction.  On failure the older checkpoints are unchanged. */
DDPM_MUST_CHECK ddpm_status checkpoint_save(const char *ckpt_dir, const model *m, trainer *t, const ddpm_config *config,
                                            const checkpoint_facts *facts, err *e);

/* Find and verify the checkpoint that resume=path means, into out[PATH_CAP]: `path` itself if it is a checkpoint, or
 * the newest undamaged one of a run or of a folder of checkpoints (skipped ones are noted).
 * DDPM_ENOINPUT: nothing is there; DDPM_EDATA: damaged, or not a checkpoint of a training run. */
DDPM_MUST_CHECK ddpm_status checkpoint_find(const char *path, char *out, notes *n, err *e);

/* Read counters, seed and facts of a checkpoint.  DDPM_EDATA: incomplete, or written by another version. */
DDPM_MUST_CHECK ddpm_status checkpoint_read_state(const char *dir, train_state *s, checkpoint_facts *facts, err *e);

/* Load weights, moments and state of a verified checkpoint into a trainer that has memory.
 * DDPM_EDATA: the checkpoint is of another network; the trainer must not be used afterwards. */
DDPM_MUST_CHECK ddpm_status checkpoint_restore(const char *dir, const train_state *state, model *m, trainer *t, err *e);

#endif
