/* folder_walk.h - listing the image files below a folder, and the other files; for src/data/dataset_folder.c only. */
#ifndef DDPM_FOLDER_WALK_H
#define DDPM_FOLDER_WALK_H
#include "data/file_list.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    WALK_ENDINGS = 32, /* most file name extensions that are counted separately */
    WALK_ENDING = 12   /* bytes of an extension, with the dot and the final 0; longer ones do not count as extensions */
};

typedef struct folder_walk {
    file_list images;   /* paths, sorted bytewise */
    file_list metadata; /* paths of files named metadata.jsonl or metadata.csv, sorted */
    file_list own;      /* excluded paths that this program wrote, such as run folders; sorted */
    int64_t others;     /* files that are neither images nor metadata, without hidden ones */
    struct {
        char ending[WALK_ENDING]; /* ".webp", in lower case; "" = no extension */
        int64_t n;
    } other[WALK_ENDINGS];
    int endings;
} folder_walk;

/* List the files of `root` and all folders below it, following links and ignoring hidden files.  Image files are those
 * with the extension .png, .jpg, .jpeg, .jpe, .jfif or .jif, and those without extension that begin with the signature
 * of PNG or JPEG.  Excluded: folders below `root` that contain LOCK, sampling.json or ckpt/ (runs and their samples),
 * the folder `run` (NULL: none), and, if `root` itself is a folder of samples, the overview images in it.
 * DDPM_EINVAL: `root` is `run` or run/samples: the model would be trained on its own samples.
 * DDPM_ENOINPUT, DDPM_EIO: a folder cannot be opened or listed.  DDPM_EDATA: more than 32 links on a
 * path (cycles are skipped). */
DDPM_MUST_CHECK ddpm_status folder_walk_all(const char *root, const char *run, folder_walk *w, err *e);

/* Is there an image, or an error that folder_walk_all() would report? */
bool folder_walk_finds(const char *root);

void folder_walk_free(folder_walk *w); /* accepts a zeroed struct; leaves it zeroed */

/* "14 other files (4 .bmp, 4 .webp, 2 without an extension)", the most frequent first; "no other files". */
void folder_walk_say_others(const folder_walk *w, char *text, size_t cap);

#endif
