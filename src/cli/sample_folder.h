/* sample_folder.h - the folder of `ddpm sample`: a description of how its pictures were sampled, and of the set of files.
 *
 *   sampling.json   describes everything that decides the pixels
 *   set.json        the format, the ids and how the set is cut into files
 *
 * A folder with pictures of another description, or of none, is refused unless they may be overwritten, and so is
 * another set, except that ids of PNG pictures may be added to others.  Overwriting removes the old description first,
 * then every picture in every format, and then writes the new description, so that an interruption never leaves old
 * pictures with the new description.
 *
 * Processes that draw parts of one set share the folder: the lock's byte WRITERS is read-locked by each of them, and
 * locked for the one that changes the description; SETUP is held while a process looks at the folder or changes it, and
 * each rank of a number of ranks has a byte of its own. */
#ifndef DDPM_SAMPLE_FOLDER_H
#define DDPM_SAMPLE_FOLDER_H
#include "base/file.h"
#include "base/folder_lock.h"
#include "sample/picture_set.h"
#include <stdint.h>

typedef struct sample_folder_spec {
    const char *path;
    char *description, *set; /* the requested contents of sampling.json and set.json; taken over, free()d */
    size_t description_size, set_size;
    int rank, ranks;
    bool overwrite;
} sample_folder_spec;

typedef struct sample_folder {
    char path[PATH_CAP];
    folder_lock lock; /* FOLDER_LOCK_NONE before the folder is opened */
    sample_folder_spec spec;
    bool described; /* sampling.json exists with the requested contents */
    bool same_set;  /* and so does set.json */
    bool joined;    /* this process may write pictures */
} sample_folder;

/* The default folder for pictures of the model at `path`: `samples` in it; for a checkpoint or the ckpt folder of a
 * run, `samples` in the run folder. */
DDPM_MUST_CHECK ddpm_status sample_folder_default(const char *path, char out[PATH_CAP], err *e);

/* Join the folder's writers, creating it if missing, and survey it without changing any picture.  *f takes ownership of
 * the descriptions (from json_out_finish()) and must be closed, also after a failure.
 * DDPM_EINVAL: the folder has pictures with another description (the message names them and the differences), or is
 * within a checkpoint; DDPM_ELOCKED: another process draws the same part, or other pictures; DDPM_EIO; DDPM_ESAVED: a
 * signal requests to stop. */
DDPM_MUST_CHECK ddpm_status sample_folder_open(sample_folder *f, const sample_folder_spec *spec, err *e);
/* Remove the pictures to be replaced and write the descriptions, unless they are there.  Call it once nothing else can
 * fail. */
DDPM_MUST_CHECK ddpm_status sample_folder_begin(sample_folder *f, err *e);
void sample_folder_close(sample_folder *f);

#endif
