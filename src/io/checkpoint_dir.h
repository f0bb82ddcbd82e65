/* checkpoint_dir.h - the folder of a run's checkpoints: which are there, which are whole, which go.
 *
 *   run/ckpt/step_00012000/            a diffusers pipeline folder, and in it
 *   run/ckpt/step_00012000/training/   what training needs beside it, and integrity.json
 *
 * A checkpoint is written in an atomic_dir, sealed, committed, and only then are older ones removed.
 * integrity.json holds size and XXH3-128 of every other file, so that verifying names the file in
 * which a byte was lost or changed:
 *   {"files": {"unet/config.json": {"bytes": 927, "xxh3_128": "<32 hex digits>"}, ...}, "format": 1} */
#ifndef DDPM_CHECKPOINT_DIR_H
#define DDPM_CHECKPOINT_DIR_H
#include "base/file.h"
#include "base/notes.h"
#include <stdint.h>

enum { CHECKPOINT_NAME_CAP = 32 };

/* "step_00012000"; returns out.  step in [0, 10^18). */
const char *checkpoint_name(char out[CHECKPOINT_NAME_CAP], int64_t step);

/* The steps of the checkpoints in `ckpt`, newest first; free with mem_free().  A missing folder has none. */
DDPM_MUST_CHECK ddpm_status checkpoint_list(const char *ckpt, int64_t **steps, int *n, err *e);

/* Write dir/training/integrity.json over all that is in dir.  To be called last, before the commit. */
DDPM_MUST_CHECK ddpm_status checkpoint_seal(const char *dir, err *e);

/* Is every sealed file there, of the same size and hash?  DDPM_EDATA names the first file that is not.  Other errors
 * say that it could not be looked at: no permission, too many open files.
 * Files that the seal does not list are not looked at. */
DDPM_MUST_CHECK ddpm_status checkpoint_verify(const char *dir, err *e);

/* The newest checkpoint in `ckpt` that verifies, into out[PATH_CAP].  Every newer one that does not is
 * in the notes, with its fault.  One that another process removes meanwhile makes it look again.
 * DDPM_ENOINPUT: there is none at all; DDPM_EDATA: none is whole. */
DDPM_MUST_CHECK ddpm_status checkpoint_newest_good(const char *ckpt, char *out, notes *n, err *e);

/* What this process knows of a run's checkpoints.  Zeroed: nothing; free with checkpoint_known_free(). */
typedef struct checkpoint_entry {
    int64_t step;
    bool whole; /* written or verified by this process */
    bool noted; /* the notes of checkpoint_prune() have said why it stays */
} checkpoint_entry;

typedef struct checkpoint_known {
    checkpoint_entry *entry;
    int n, capacity;
} checkpoint_known;

DDPM_MUST_CHECK ddpm_status checkpoint_known_add(checkpoint_known *k, int64_t step, err *e);
void checkpoint_known_free(checkpoint_known *k);

/* Remove the checkpoints that are older than the `keep` (at least 1) newest whole ones, counted from the one of step
 * `newest` down: later ones stay and do not count, nor do damaged ones.  Each is verified once, and then known.  One that
 * holds a file which its seal does not list stays: somebody put it there.  What stays is in the notes, once with each
 * reason: that is no failure of what was saved. */
DDPM_MUST_CHECK ddpm_status checkpoint_prune(const char *ckpt, int64_t newest, int keep, checkpoint_known *known,
                                             notes *left, err *e);

#endif
