/* folder_walk.h - the image files below a folder, and what else lies there; for src/data/dataset_folder.c alone. */
#ifndef DDPM_FOLDER_WALK_H
#define DDPM_FOLDER_WALK_H
#include "data/file_list.h"
#include <stdbool.h>
#include <stdint.h>

enum {
    WALK_ENDINGS = 32, /* endings of names that are counted apart */
    WALK_ENDING = 12   /* bytes of one, with the dot and the final 0; longer ones are no endings */
};

typedef struct folder_walk {
    file_list images; /* paths, sorted by their bytes */
    file_list own;    /* what the program wrote and no picture of a set: left out, sorted */
    int64_t others;   /* files that are no images; hidden ones are not counted */
    struct {
        char ending[WALK_ENDING]; /* ".webp", in small letters; "" = none */
        int64_t n;
    } other[WALK_ENDINGS];
    int endings;
} folder_walk;

/* Walk through `root` and all below it, links followed, what is hidden left out.  An image file is one whose name ends
 * in .png, .jpg, .jpeg, .jpe, .jfif or .jif, or that has no ending and begins as PNG or JPEG does.  A folder below
 * `root` that holds LOCK, sampling.json or ckpt/ is that of a run or of its samples, and no data; nor is `run` (NULL:
 * none), nor, where `root` itself holds samples, an overview among them.
 * DDPM_EINVAL: `root` is `run`, or run/samples: a training would learn from its own pictures.
 * DDPM_ENOINPUT, DDPM_EIO: a folder cannot be opened or listed.  DDPM_EDATA: links without end. */
DDPM_MUST_CHECK ddpm_status folder_walk_all(const char *root, const char *run, folder_walk *w, err *e);

/* Is there an image, or something that folder_walk_all() fails at? */
bool folder_walk_finds(const char *root);

void folder_walk_free(folder_walk *w); /* takes the zeroed one; leaves it zeroed */

/* "14 other files (4 .bmp, 4 .webp, 2 without an ending)", the most frequent first; "no other files". */
void folder_walk_say_others(const folder_walk *w, char *text, size_t cap);

#endif
