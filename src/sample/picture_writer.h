/* picture_writer.h - encoding and writing pictures on threads of their own while the next batch is computed.
 *
 * At most two batches are queued or being written; a third blocks in picture_writer_push().  Pictures are prepared on
 * any of the threads and then committed one by one in the order of the pushes.  The first failure ends the writing: it
 * is stored, and every later call returns it; the pictures before it are committed.  Without a failure everything pushed
 * is committed, even if the writer is destroyed without picture_writer_finish(). */
#ifndef DDPM_PICTURE_WRITER_H
#define DDPM_PICTURE_WRITER_H
#include "sample/picture_format.h"

/* Both may change the item; `png` is freed after the commit. */
typedef ddpm_status picture_step(void *context, picture_item *item, err *e);

typedef struct picture_writer_spec {
    int batch;            /* most pictures per push */
    size_t picture_bytes; /* of a picture's pixels */
    int threads;          /* at least 1 */
    picture_step *prepare, *commit;
    void *context; /* of both */
} picture_writer_spec;

typedef struct picture_writer picture_writer;

/* Threads that suit this process: half of its processors, 1 to 8. */
int picture_writer_threads(void);

DDPM_MUST_CHECK ddpm_status picture_writer_create(const picture_writer_spec *spec, picture_writer **out, err *e);

/* Finish, ignoring errors, and free; accepts NULL. */
void picture_writer_destroy(picture_writer *w);

/* Copy items[n], 1 <= n <= batch, with pixels [n, picture_bytes] and queue them for writing.  One thread at a time; not
 * after picture_writer_finish(). */
DDPM_MUST_CHECK ddpm_status picture_writer_push(picture_writer *w, const picture_item *items, int n,
                                                const uint8_t *pixels, err *e);

/* The stored failure, or DDPM_OK. */
ddpm_status picture_writer_status(picture_writer *w);
/* Seconds for which picture_writer_push() has waited for the writing. */
double picture_writer_waited(picture_writer *w);

/* Wait until everything is written and the threads have ended; may be called repeatedly. */
DDPM_MUST_CHECK ddpm_status picture_writer_finish(picture_writer *w, err *e);

#endif
