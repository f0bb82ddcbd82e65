#include "sample/picture_writer.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/threads.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 2 };

/* Batch b uses slot b % SLOTS, which belongs to the caller until the push, then to the threads until it is written. */
typedef struct slot {
    int n;
    picture_item *items; /* [batch] */
    bool *prepared;      /* [batch] */
    uint8_t *pixels;     /* [batch, picture_bytes] */
} slot;

/* Picture `i` of batch `b`. */
typedef struct place {
    uint64_t b;
    int i;
} place;

int picture_writer_threads(void)
{
    enum { MOST_THREADS = 8 };
    const int half = threads_processors() / 2;
    return half < 1 ? 1 : half < MOST_THREADS ? half : MOST_THREADS;
}

struct picture_writer {
    picture_writer_spec spec;
    slot ring[SLOTS];
    int running; /* threads */
    pthread_t *threads;
    pthread_mutex_t lock;
    pthread_cond_t filled, freed;
    /* protected by the lock */
    uint64_t pushed;    /* batches */
    place taken, head;  /* the next picture to be prepared, and to be committed; batches before head.b are written */
    bool committing;    /* a thread is */
    bool closing;       /* no more pushes */
    double waited;      /* seconds */
    ddpm_status status; /* the first failure */
    err why;
};

static slot *slot_of(picture_writer *w, place at) { return &w->ring[at.b % SLOTS]; }

static void advance(picture_writer *w, place *at)
{
    if (++at->i < slot_of(w, *at)->n) return;
    at->b++;
    at->i = 0;
}

/* Run a step without the lock. */
static ddpm_status run(picture_writer *w, picture_step *step, picture_item *item, err *why)
{
    pthread_mutex_unlock(&w->lock);
    const ddpm_status st = step(w->spec.context, item, why);
    pthread_mutex_lock(&w->lock);
    return st;
}

/* The pictures before a failure are all taken already, and will be committed by their threads. */
static void fail(picture_writer *w, ddpm_status st, const err *why)
{
    if (w->status == DDPM_OK) {
        w->status = st;
        w->why = *why;
    }
    pthread_cond_broadcast(&w->filled);
    pthread_cond_broadcast(&w->freed);
}

static void commit_prepared(picture_writer *w)
{
    if (w->committing) return;
    w->committing = true;
    while (w->head.b < w->pushed && slot_of(w, w->head)->prepared[w->head.i]) {
        picture_item *item = &slot_of(w, w->head)->items[w->head.i];
        err why = {0};
        const ddpm_status st = run(w, w->spec.commit, item, &why);
        free(item->png);
        item->png = NULL;
        if (st != DDPM_OK) {
            fail(w, st, &why);
            return; /* `committing` stays: nothing behind this picture is committed */
        }
        const uint64_t before = w->head.b;
        advance(w, &w->head);
        if (w->head.b != before) pthread_cond_broadcast(&w->freed);
    }
    w->committing = false;
}

static void prepare_next(picture_writer *w)
{
    const place at = w->taken;
    slot *s = slot_of(w, at);
    err why = {0};
    advance(w, &w->taken);
    const ddpm_status st = run(w, w->spec.prepare, &s->items[at.i], &why);
    if (st != DDPM_OK) {
        fail(w, st, &why);
        return;
    }
    s->prepared[at.i] = true;
    commit_prepared(w);
}

static void *work(void *arg)
{
    picture_writer *w = arg;
    pthread_mutex_lock(&w->lock);
    while (w->status == DDPM_OK) {
        if (w->taken.b < w->pushed) {
            prepare_next(w);
            continue;
        }
        if (w->closing) break;
        pthread_cond_wait(&w->filled, &w->lock);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static ddpm_status hand_on(const picture_writer *w, ddpm_status st, err *e)
{
    return st == DDPM_OK ? DDPM_OK : err_set(e, st, "%s", w->why.text);
}

ddpm_status picture_writer_push(picture_writer *w, const picture_item *items, int n, const uint8_t *pixels, err *e)
{
    assert(w->running && n >= 1 && n <= w->spec.batch);
    const double before = clock_seconds();
    pthread_mutex_lock(&w->lock);
    while (w->pushed - w->head.b == SLOTS && w->status == DDPM_OK) pthread_cond_wait(&w->freed, &w->lock);
    w->waited += clock_seconds() - before;
    const ddpm_status st = w->status;
    pthread_mutex_unlock(&w->lock);
    TRY(hand_on(w, st, e));
    slot *s = &w->ring[w->pushed % SLOTS];
    s->n = n;
    memcpy(s->items, items, (size_t)n * sizeof *items);
    memcpy(s->pixels, pixels, (size_t)n * w->spec.picture_bytes);
    for (int i = 0; i < n; i++) {
        s->items[i].pixels = s->pixels + (size_t)i * w->spec.picture_bytes;
        s->prepared[i] = false;
    }
    pthread_mutex_lock(&w->lock);
    w->pushed++;
    pthread_cond_broadcast(&w->filled);
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

double picture_writer_waited(picture_writer *w)
{
    pthread_mutex_lock(&w->lock);
    const double seconds = w->waited;
    pthread_mutex_unlock(&w->lock);
    return seconds;
}

static void join(picture_writer *w)
{
    if (!w->running) return;
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_cond_broadcast(&w->filled);
    pthread_mutex_unlock(&w->lock);
    while (w->running > 0) pthread_join(w->threads[--w->running], NULL);
}

ddpm_status picture_writer_finish(picture_writer *w, err *e)
{
    join(w);
    return hand_on(w, w->status, e);
}

/* Signals are handled by the main thread: the new threads block them all.  One thread is enough to go on. */
static ddpm_status start_threads(picture_writer *w, err *e)
{
    sigset_t all, before;
    int rc = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (w->running < w->spec.threads && !rc) {
        rc = pthread_create(&w->threads[w->running], NULL, work, w);
        w->running += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (w->running) return DDPM_OK;
    return err_errno(e, DDPM_ENOMEM, rc, "cannot start the thread that writes the pictures");
}

ddpm_status picture_writer_create(const picture_writer_spec *spec, picture_writer **out, err *e)
{
    ddpm_status st = DDPM_OK;
    picture_writer *w;
    const size_t batch = (size_t)spec->batch;
    *out = NULL;
    TRY(mem_array(&w, 1, sizeof *w, "picture writer", e));
    w->spec = *spec;
    pthread_mutex_init(&w->lock, NULL); /* cannot fail on Linux with default attributes */
    pthread_cond_init(&w->filled, NULL);
    pthread_cond_init(&w->freed, NULL);
    TRY_GOTO(mem_array(&w->threads, (size_t)spec->threads, sizeof *w->threads, "threads", e));
    for (int k = 0; k < SLOTS; k++) {
        TRY_GOTO(mem_array(&w->ring[k].items, batch, sizeof(picture_item), "pictures to be written", e));
        TRY_GOTO(mem_array(&w->ring[k].prepared, batch, sizeof(bool), "pictures to be written", e));
        TRY_GOTO(mem_array(&w->ring[k].pixels, batch, spec->picture_bytes, "pictures to be written", e));
    }
    TRY_GOTO(start_threads(w, e));
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
        for (int i = 0; w->ring[k].items && i < w->spec.batch; i++) free(w->ring[k].items[i].png);
        mem_free(w->ring[k].items);
        mem_free(w->ring[k].prepared);
        mem_free(w->ring[k].pixels);
    }
    mem_free(w->threads);
    mem_free(w);
}
