/* sample_folder.h - the folder of `ddpm sample`: a description of how its pictures were sampled, and which exist.
 *
 * sampling.json describes everything that decides the pixels.  A picture counts as done if its file is complete, has
 * the right size, and the folder's description equals the requested one.  Pictures with another description, or with
 * none, are an error unless they may be overwritten.  Overwriting removes the old description first, then every
 * picture, and then writes the new description, so that an interruption never leaves old pictures with the new
 * description. */
#ifndef DDPM_SAMPLE_FOLDER_H
#define DDPM_SAMPLE_FOLDER_H
#include "base/file.h"
#include "base/folder_lock.h"
#include <stdint.h>

enum { OVERVIEW_MAX = 256 }; /* most pictures on grid.png, which shows the first ones */

typedef struct sample_folder_spec {
    const char *path;
    int h, w, c;   /* of each picture */
    int64_t count; /* pictures 0 to count - 1 are requested */
    bool overwrite;
} sample_folder_spec;

typedef struct sample_folder {
    char path[PATH_CAP];
    folder_lock lock;  /* FOLDER_LOCK_NONE before the folder is opened */
    char *description; /* the requested contents of sampling.json; owned */
    size_t description_size;
    sample_folder_spec spec;
    bool described; /* sampling.json exists with the requested contents */
    uint8_t *done;  /* [(count + 7) / 8]  one bit per picture */
    int64_t n_done;
} sample_folder;

/* The default folder for pictures of the model at `path`: `samples` in it; for a checkpoint or the ckpt folder of a
 * run, `samples` in the run folder. */
DDPM_MUST_CHECK ddpm_status sample_folder_default(const char *path, char out[PATH_CAP], err *e);

/* Lock the folder, creating it if missing, and survey it without changing any picture.  *f takes ownership of
 * `description` (from json_out_finish()) and must be closed, also after a failure.
 * DDPM_EINVAL: the folder has pictures with another description (the message names them and the differences), or is
 * within a checkpoint; DDPM_ELOCKED: another sampling uses the folder; DDPM_EIO; DDPM_ESAVED: a signal requests to
 * stop. */
DDPM_MUST_CHECK ddpm_status sample_folder_open(sample_folder *f, const sample_folder_spec *spec, char *description,
                                               size_t size, err *e);
/* Remove the pictures to be replaced and write sampling.json.  Call it once nothing else can fail. */
DDPM_MUST_CHECK ddpm_status sample_folder_begin(sample_folder *f, err *e);
bool sample_folder_has(const sample_folder *f, int64_t id); /* is picture `id` done? */
void sample_folder_close(sample_folder *f);

#endif
