/* checkpoint_dir.h - the folder of a run's checkpoints: listing, sealing, verifying and pruning.
 *
 *   run/ckpt/step_00012000/            a diffusers pipeline folder, which also contains
 *   run/ckpt/step_00012000/training/   the training state and integrity.json
 *
 * A checkpoint is written into an atomic_dir, sealed and committed; only then are older ones removed.
 * The seal, integrity.json, holds size and XXH3-128 of every other file, so that verifying can name
 * the damaged file:
 *   {"files": {"unet/config.json": {"bytes": 927, "xxh3_128": "<32 hex digits>"}, ...}, "format": 1} */
#ifndef DDPM_CHECKPOINT_DIR_H
#define DDPM_CHECKPOINT_DIR_H
#include "base/file.h"
#include "base/notes.h"
#include <stdint.h>

enum { CHECKPOINT_NAME_CAP = 32 };

/* "step_00012000"; returns out.  step in [0, 10^18). */
const char *checkpoint_name(char out[CHECKPOINT_NAME_CAP], int64_t step);

/* The steps of the checkpoints in `ckpt`, newest first; free with mem_free().  *n is 0 for a missing folder. */
DDPM_MUST_CHECK ddpm_status checkpoint_list(const char *ckpt, int64_t **steps, int *n, err *e);

/* Write dir/training/integrity.json for all files in dir.  Call it last, before the commit. */
DDPM_MUST_CHECK ddpm_status checkpoint_seal(const char *dir, err *e);

/* Check that every sealed file exists with its size and hash.  DDPM_EDATA names the first file that does not.  Other
 * errors mean that the files could not be read: no permission, too many open files.
 * Files that the seal does not list are ignored. */
DDPM_MUST_CHECK ddpm_status checkpoint_verify(const char *dir, err *e);

/* The newest checkpoint in `ckpt` that verifies, into out[PATH_CAP].  Newer, damaged checkpoints are noted with their
 * damage.  If another process removes a checkpoint during the search, the search restarts.
 * DDPM_ENOINPUT: there is no checkpoint; DDPM_EDATA: all of them are damaged. */
DDPM_MUST_CHECK ddpm_status checkpoint_newest_good(const char *ckpt, char *out, notes *n, err *e);

/* The checkpoints of a run that this process has written or verified, so that each is verified once.  Zeroed: empty;
 * free with checkpoint_known_free(). */
typedef struct checkpoint_entry {
    int64_t step;
    bool whole; /* written or verified by this process */
    bool noted; /* checkpoint_prune() has noted why it is kept */
} checkpoint_entry;

typedef struct checkpoint_known {
    checkpoint_entry *entry;
    int n, capacity;
} checkpoint_known;

DDPM_MUST_CHECK ddpm_status checkpoint_known_add(checkpoint_known *k, int64_t step, err *e);
void checkpoint_known_free(checkpoint_known *k);

/* Remove the checkpoints that are older than the `keep` (at least 1) newest undamaged ones.  Counting starts at the
 * checkpoint of step `newest`: later ones are kept and not counted, and damaged ones are not counted.  A checkpoint
 * that `known` records as undamaged is not verified again.  A checkpoint that contains a file which its seal does not
 * list is kept: the user put the file there.
 * A checkpoint that is kept for such a reason is noted once and is no error, as the new checkpoint is saved. */
DDPM_MUST_CHECK ddpm_status checkpoint_prune(const char *ckpt, int64_t newest, int keep, checkpoint_known *known,
                                             notes *left, err *e);

#endif
