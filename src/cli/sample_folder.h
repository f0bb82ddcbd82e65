/* sample_folder.h - the folder of `ddpm sample`: what its pictures were made from, and which of them are there.
 *
 * sampling.json describes everything that decides the pixels.  A picture counts as done where it is whole, of the right
 * size, and beside the very description that is asked for.  Pictures of another description, and pictures without any,
 * are refused, or on request replaced: the old description goes first, then every picture, and only then the new
 * description comes, so that whatever ends this half-way leaves a folder whose pictures nobody takes for his own. */
#ifndef DDPM_SAMPLE_FOLDER_H
#define DDPM_SAMPLE_FOLDER_H
#include "base/file.h"
#include "base/folder_lock.h"
#include <stdint.h>

enum { OVERVIEW_MAX = 256 }; /* pictures on grid.png, the first ones */

typedef struct sample_folder_spec {
    const char *path;
    int h, w, c;   /* of each picture */
    int64_t count; /* pictures 0 to count - 1 are wanted */
    bool overwrite;
} sample_folder_spec;

typedef struct sample_folder {
    char path[PATH_CAP];
    folder_lock lock;  /* FOLDER_LOCK_NONE before the folder is opened */
    char *description; /* sampling.json as it is to be; owned */
    size_t description_size;
    sample_folder_spec spec;
    bool described; /* sampling.json says what is asked for */
    uint8_t *done;  /* [(count + 7) / 8]  a bit a picture */
    int64_t n_done;
} sample_folder;

/* The folder for the pictures of the model at `path` where none is given: `samples` within; a checkpoint's, and those of
 * a run's ckpt folder, go to the run. */
DDPM_MUST_CHECK ddpm_status sample_folder_default(const char *path, char out[PATH_CAP], err *e);

/* Lock the folder, made where it is missing, and see what is there; no picture is touched.  `description`, from
 * json_out_finish(), becomes the folder's.  *f is to be closed, whatever comes of it.
 * DDPM_EINVAL: pictures are there that the description is not true of (says which and what differs), or the folder lies
 * within a checkpoint; DDPM_ELOCKED: another sampling is at work there; DDPM_EIO; DDPM_ESAVED: a signal asks to stop. */
DDPM_MUST_CHECK ddpm_status sample_folder_open(sample_folder *f, const sample_folder_spec *spec, char *description,
                                               size_t size, err *e);
/* Remove what is to be replaced and write sampling.json.  Call it once nothing else can fail. */
DDPM_MUST_CHECK ddpm_status sample_folder_begin(sample_folder *f, err *e);
bool sample_folder_has(const sample_folder *f, int64_t id); /* is that picture done? */
void sample_folder_close(sample_folder *f);

#endif
