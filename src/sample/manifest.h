/* manifest.h - the hashes of all pictures of a complete set: a text file, one line a picture in the order of the ids.
 *
 *   6d9cd1a0f2b1e4a3c5d7e9f102132435  000/000123.png
 *
 * XXH3's 128-bit hash and the picture's name, as `xxhsum -H128` writes them, so that `xxhsum -c manifest.xxh128` checks a
 * folder of PNG files, and the files that a tar shard is unpacked to.  In an npz file the name is arr_0/000123, and the
 * hash is that of the picture's pixels. */
#ifndef DDPM_MANIFEST_H
#define DDPM_MANIFEST_H
#include "sample/picture_set.h"
#include <stdio.h>

/* Reads the lines in ascending order of their ids. */
typedef struct manifest_reader {
    char path[PATH_CAP];
    FILE *file; /* NULL: there is no manifest */
    char *line; /* the current line, owned; without the newline */
    size_t cap;
    int64_t id;    /* of the current line; ID_END: no more */
    int64_t lines; /* read so far */
    uint8_t hash[PICTURE_HASH];
} manifest_reader;

/* A missing manifest is an empty one.  DDPM_EDATA (when a line is read): not a line of a manifest, or not in order. */
DDPM_MUST_CHECK ddpm_status manifest_open(manifest_reader *r, const picture_set *set, err *e);
DDPM_MUST_CHECK ddpm_status manifest_next(manifest_reader *r, err *e);
/* Go on to picture `id`, which is at least the last one asked for; *record is filled if it is there. */
DDPM_MUST_CHECK ddpm_status manifest_find(manifest_reader *r, int64_t id, picture_record *record, err *e);
/* Open it again, from the beginning, if there is another manifest now. */
DDPM_MUST_CHECK ddpm_status manifest_refresh(manifest_reader *r, const picture_set *set, err *e);
void manifest_close(manifest_reader *r); /* accepts a zeroed one */

/* Writes a new manifest, which takes over the old one's lines of pictures that are not of the set. */
typedef struct manifest_writer {
    const picture_set *set;
    manifest_reader old;
    FILE *file;
    char path[PATH_CAP], tmp[PATH_CAP];
} manifest_writer;

DDPM_MUST_CHECK ddpm_status manifest_begin(manifest_writer *w, const picture_set *set, err *e);
DDPM_MUST_CHECK ddpm_status manifest_add(manifest_writer *w, int64_t id, const picture_record *r, err *e);
DDPM_MUST_CHECK ddpm_status manifest_commit(manifest_writer *w, err *e); /* fsync, rename */
void manifest_abort(manifest_writer *w);                                 /* no effect after a commit */

#endif
