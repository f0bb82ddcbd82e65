#include "cli/picture_writer.h"

#include "base/mem.h"
#include "data/image.h"
#include <assert.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { SLOTS = 2 };

/* Batch b uses slot b % SLOTS, which belongs to the caller until the push, then to the thread until it is written. */
typedef struct slot {
    int n;
    int64_t *ids;    /* [batch] */
    uint8_t *pixels; /* [batch, h, w, c] */
} slot;

struct picture_writer {
    picture_writer_spec spec;
    size_t picture_bytes;
    slot ring[SLOTS];
    bool running;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t filled, freed;
    /* protected by the lock */
    uint64_t pushed, written; /* batches; a failed batch counts as written */
    bool closing;             /* no more pushes */
    ddpm_status status;       /* the first failure */
    err why;
};

void picture_name(int64_t id, char out[PICTURE_NAME]) { (void)snprintf(out, PICTURE_NAME, "%06" PRId64 ".png", id); }

int64_t picture_id(const char *name)
{
    enum { DIGITS = 18 }; /* any number of so many digits fits an int64_t */
    char again[PICTURE_NAME];
    int64_t id = 0;
    const size_t digits = strspn(name, "0123456789");
    if (digits == 0 || digits > DIGITS) return -1;
    for (size_t i = 0; i < digits; i++) id = 10 * id + (name[i] - '0');
    picture_name(id, again);
    return strcmp(name, again) ? -1 : id;
}

ddpm_status picture_path(const char *folder, int64_t id, char *out, err *e)
{
    char name[PICTURE_NAME];
    picture_name(id, name);
    return path_join(out, folder, name, e);
}

static ddpm_status write_batch(const picture_writer *w, const slot *s, err *e)
{
    char path[PATH_CAP];
    image one = {.h = w->spec.h, .w = w->spec.w, .c = w->spec.c};
    for (int i = 0; i < s->n; i++) {
        one.pixel = s->pixels + (size_t)i * w->picture_bytes;
        TRY(picture_path(w->spec.folder, s->ids[i], path, e));
        TRY(image_write_png(path, &one, e));
    }
    return DDPM_OK;
}

static void *work(void *arg)
{
    picture_writer *w = arg;
    pthread_mutex_lock(&w->lock);
    while (w->status == DDPM_OK) {
        if (w->written == w->pushed) {
            if (w->closing) break;
            pthread_cond_wait(&w->filled, &w->lock);
            continue;
        }
        const slot *s = &w->ring[w->written % SLOTS];
        err why = {0};
        pthread_mutex_unlock(&w->lock);
        const ddpm_status st = write_batch(w, s, &why);
        pthread_mutex_lock(&w->lock);
        w->status = st;
        w->why = why;
        w->written++;
        pthread_cond_signal(&w->freed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static ddpm_status hand_on(const picture_writer *w, ddpm_status st, err *e)
{
    return st == DDPM_OK ? DDPM_OK : err_set(e, st, "%s", w->why.text);
}

ddpm_status picture_writer_push(picture_writer *w, const int64_t *ids, int n, const uint8_t *pixels, err *e)
{
    assert(w->running && n >= 1 && n <= w->spec.batch);
    pthread_mutex_lock(&w->lock);
    while (w->pushed - w->written == SLOTS) pthread_cond_wait(&w->freed, &w->lock);
    const ddpm_status st = w->status;
    pthread_mutex_unlock(&w->lock);
    TRY(hand_on(w, st, e));
    slot *s = &w->ring[w->pushed % SLOTS];
    s->n = n;
    memcpy(s->ids, ids, (size_t)n * sizeof *ids);
    memcpy(s->pixels, pixels, (size_t)n * w->picture_bytes);
    pthread_mutex_lock(&w->lock);
    w->pushed++;
    pthread_cond_signal(&w->filled);
    pthread_mutex_unlock(&w->lock);
    return DDPM_OK;
}

ddpm_status picture_writer_status(picture_writer *w)
{
    pthread_mutex_lock(&w->lock);
    const ddpm_status st = w->status;
    pthread_mutex_unlock(&w->lock);
    return st;
}

static void join(picture_writer *w)
{
    if (!w->running) return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_signal(&w->filled);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->thread, NULL);
    w->running = false;
}

ddpm_status picture_writer_finish(picture_writer *w, err *e)
{
    join(w);
    return hand_on(w, w->status, e);
}

/* Signals are handled by the main thread: the new thread blocks them all. */
static ddpm_status start_thread(picture_writer *w, err *e)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int rc = pthread_create(&w->thread, NULL, work, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    w->running = rc == 0;
    return rc ? err_errno(e, DDPM_ENOMEM, rc, "cannot start the thread that writes the pictures") : DDPM_OK;
}

ddpm_status picture_writer_create(const picture_writer_spec *spec, picture_writer **out, err *e)
{
    ddpm_status st = DDPM_OK;
    picture_writer *w;
    *out = NULL;
    if (spec->c != 1 && spec->c != 3)
        return err_set(e, DDPM_EINVAL, "pictures of %d channels cannot be written, only of 1 or 3", spec->c);
    TRY(mem_array(&w, 1, sizeof *w, "picture writer", e));
    w->spec = *spec;
    w->picture_bytes = (size_t)spec->h * (size_t)spec->w * (size_t)spec->c;
    pthread_mutex_init(&w->lock, NULL); /* cannot fail on Linux with default attributes */
    pthread_cond_init(&w->filled, NULL);
    pthread_cond_init(&w->freed, NULL);
    for (int k = 0; k < SLOTS; k++) {
        TRY_GOTO(mem_array(&w->ring[k].ids, (size_t)spec->batch, sizeof(int64_t), "pictures to be written", e));
        TRY_GOTO(mem_array(&w->ring[k].pixels, (size_t)spec->batch, w->picture_bytes, "pictures to be written", e));
    }
    TRY_GOTO(start_thread(w, e));
    *out = w;
    w = NULL;
done:
    picture_writer_destroy(w);
    return st;
}

void picture_writer_destroy(picture_writer *w)
{
    if (!w) return;
    join(w);
    pthread_cond_destroy(&w->freed);
    pthread_cond_destroy(&w->filled);
    pthread_mutex_destroy(&w->lock);
    for (int k = 0; k < SLOTS; k++) {
        mem_free(w->ring[k].ids);
        mem_free(w->ring[k].pixels);
    }
    mem_free(w);
}
