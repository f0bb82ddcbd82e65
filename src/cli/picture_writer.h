/* picture_writer.h - pictures into a folder, on a thread of their own, while the next batch is computed.
 *
 * Two batches at most wait or are being written; a third waits in picture_writer_push().  The pictures
 * appear one by one in the order they were pushed, and each is whole from the start (image_write_png).
 * The first failure ends the writing: it is kept, and every later call hands it on.  Otherwise all that
 * was pushed is written, whichever way the writer ends. */
#ifndef DDPM_PICTURE_WRITER_H
#define DDPM_PICTURE_WRITER_H
#include "base/file.h"
#include <stdint.h>

typedef struct picture_writer_spec {
    const char *folder; /* borrowed; has to be there at the first push */
    int batch;          /* most pictures in one push */
    int h, w, c;        /* of each picture; c is 1 or 3 */
} picture_writer_spec;

typedef struct picture_writer picture_writer;

/* DDPM_EINVAL: no picture has that many channels. */
DDPM_MUST_CHECK ddpm_status picture_writer_create(const picture_writer_spec *spec, picture_writer **out, err *e);

/* Finish, whatever comes of it, and free; takes NULL. */
void picture_writer_destroy(picture_writer *w);

/* Copy pictures ids[n], 1 <= n <= batch, from pixels [n, h, w, c] and have them written.  One thread at a
 * time; not after picture_writer_finish(). */
DDPM_MUST_CHECK ddpm_status picture_writer_push(picture_writer *w, const int64_t *ids, int n, const uint8_t *pixels,
                                                err *e);

/* DDPM_OK as long as nothing has failed. */
ddpm_status picture_writer_status(picture_writer *w);

/* Wait until all is written and the thread has ended; may be called again. */
DDPM_MUST_CHECK ddpm_status picture_writer_finish(picture_writer *w, err *e);

enum { PICTURE_NAME = 32 };                            /* bytes of a picture's name, with the final 0 */
void picture_name(int64_t id, char out[PICTURE_NAME]); /* "000042.png" */
int64_t picture_id(const char *name);                  /* and back; -1: no picture is called that */
/* The file of picture `id`, folder/000042.png, into out[PATH_CAP]. */
DDPM_MUST_CHECK ddpm_status picture_path(const char *folder, int64_t id, char *out, err *e);

#endif
