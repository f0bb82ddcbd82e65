/* picture_writer.h - writing PNG files to a folder on a separate thread while the next batch is computed.
 *
 * At most two batches are queued or being written; a third blocks in picture_writer_push().  The files
 * appear one by one in the order of the pushes, each of them complete (image_write_png).  The first
 * failure ends the writing: it is stored, and every later call returns it.  Without a failure everything
 * pushed is written, even if the writer is destroyed without picture_writer_finish(). */
#ifndef DDPM_PICTURE_WRITER_H
#define DDPM_PICTURE_WRITER_H
#include "base/file.h"
#include <stdint.h>

typedef struct picture_writer_spec {
    const char *folder; /* borrowed; must exist at the first push */
    int batch;          /* most pictures per push */
    int h, w, c;        /* of each picture; c is 1 or 3 */
} picture_writer_spec;

typedef struct picture_writer picture_writer;

/* DDPM_EINVAL: invalid number of channels. */
DDPM_MUST_CHECK ddpm_status picture_writer_create(const picture_writer_spec *spec, picture_writer **out, err *e);

/* Finish, ignoring errors, and free; accepts NULL. */
void picture_writer_destroy(picture_writer *w);

/* Copy pictures ids[n], 1 <= n <= batch, from pixels [n, h, w, c] and queue them for writing.  One thread
 * at a time; not after picture_writer_finish(). */
DDPM_MUST_CHECK ddpm_status picture_writer_push(picture_writer *w, const int64_t *ids, int n, const uint8_t *pixels,
                                                err *e);

/* The stored failure, or DDPM_OK. */
ddpm_status picture_writer_status(picture_writer *w);

/* Wait until everything is written and the thread has ended; may be called repeatedly. */
DDPM_MUST_CHECK ddpm_status picture_writer_finish(picture_writer *w, err *e);

enum { PICTURE_NAME = 32 };                            /* bytes of a picture's name, with the final 0 */
void picture_name(int64_t id, char out[PICTURE_NAME]); /* "000042.png" */
int64_t picture_id(const char *name);                  /* the inverse; -1: not a picture's name */
/* The file of picture `id`, folder/000042.png, into out[PATH_CAP]. */
DDPM_MUST_CHECK ddpm_status picture_path(const char *folder, int64_t id, char *out, err *e);

#endif
