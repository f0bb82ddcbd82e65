#include "data/loader.h"

#include "base/clock.h"
#include "base/mem.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

enum { PREFETCH_DEFAULT = 4, PREFETCH_MAX = 1024, THREADS_MAX = 256 };

/* Batch b uses slot b % slots.  A thread claims the next batch once its slot is free, fills the slot alone and
 * marks it ready; the caller takes batches in order, and each loader_next() frees the batch before. */
typedef struct slot {
    uint8_t *pixels; /* [batch, h, w, c], in one block for all slots */
    int64_t *labels; /* [batch], likewise; NULL: the set has none */
    bool ready;
    ddpm_status status;
    err why;
} slot;

struct loader {
    loader_spec spec;
    size_t image_bytes;
    uint8_t *block;
    int64_t *label_block; /* NULL: the set has no labels */
    slot *ring;
    uint64_t slots;
    pthread_t *thread;
    int threads; /* running */
    bool has_locks;
    pthread_mutex_t lock;
    pthread_cond_t filled, freed;
    /* protected by the lock: batch numbers */
    uint64_t claimed; /* next to be claimed */
    uint64_t taken;   /* next to be returned by loader_next() */
    uint64_t kept;    /* first whose slot is not free */
    double waited;
    atomic_bool stop; /* also read without the lock, between two images */
};

/* Read one batch into its slot; the first error is stored in the slot. */
static void fill(loader *l, uint64_t batch, slot *s)
{
    const loader_spec *spec = &l->spec;
    const uint64_t first = spec->first_sample + batch * spec->stride;
    s->status = DDPM_OK;
    for (int i = 0; i < spec->batch && s->status == DDPM_OK && !atomic_load(&l->stop); i++) {
        const int64_t index =
            loader_image_index(spec->seed, dataset_count(spec->data), first + (uint64_t)i, spec->shuffle);
        s->status = dataset_read_or_next(spec->data, index, s->pixels + (size_t)i * l->image_bytes,
                                         s->labels ? &s->labels[i] : NULL, &s->why);
    }
}

static void *work(void *arg)
{
    loader *l = arg;
    pthread_mutex_lock(&l->lock);
    while (!atomic_load(&l->stop)) {
        if (l->claimed - l->kept >= l->slots) {
            pthread_cond_wait(&l->freed, &l->lock);
            continue;
        }
        const uint64_t batch = l->claimed++;
        slot *s = &l->ring[batch % l->slots];
        pthread_mutex_unlock(&l->lock);
        fill(l, batch, s);
        pthread_mutex_lock(&l->lock);
        s->ready = true;
        pthread_cond_signal(&l->filled);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

ddpm_status loader_next(loader *l, const uint8_t **images, const int64_t **labels, err *e)
{
    pthread_mutex_lock(&l->lock);
    if (l->kept < l->taken) { /* free the batch returned last */
        l->ring[l->kept % l->slots].ready = false;
        l->kept++;
        pthread_cond_signal(&l->freed);
    }
    slot *s = &l->ring[l->taken % l->slots];
    if (!s->ready) {
        const double since = clock_seconds();
        while (!s->ready) pthread_cond_wait(&l->filled, &l->lock);
        l->waited += clock_seconds() - since;
    }
    const ddpm_status st = s->status;
    if (st == DDPM_OK) l->taken++;
    pthread_mutex_unlock(&l->lock);
    *images = st == DDPM_OK ? s->pixels : NULL;
    if (labels) *labels = st == DDPM_OK ? s->labels : NULL;
    return st == DDPM_OK ? DDPM_OK : err_set(e, st, "%s", s->why.text);
}

double loader_waited_seconds(const loader *l) { return l->waited; } /* only loader_next() writes it */

static ddpm_status check_spec(const loader_spec *s, err *e)
{
    if (s->batch < 1) return err_set(e, DDPM_EINVAL, "train.batch=%d: must be at least 1", s->batch);
    if (s->prefetch < 0 || s->prefetch > PREFETCH_MAX)
        return err_set(e, DDPM_EINVAL, "data.prefetch=%d: must be 0 to %d", s->prefetch, PREFETCH_MAX);
    if (s->threads < 0 || s->threads > THREADS_MAX)
        return err_set(e, DDPM_EINVAL, "data.threads=%d: must be 0 to %d", s->threads, THREADS_MAX);
    return DDPM_OK;
}

static ddpm_status make_ring(loader *l, err *e)
{
    const size_t batch = (size_t)l->spec.batch;
    l->slots = (uint64_t)l->spec.prefetch + 1; /* one more for the caller's batch */
    TRY(mem_array(&l->ring, l->slots, sizeof *l->ring, "loader", e));
    TRY(mem_array(&l->block, l->slots * batch, l->image_bytes, "batches loaded ahead", e));
    if (dataset_classes(l->spec.data) > 0)
        TRY(mem_array(&l->label_block, l->slots * batch, sizeof *l->label_block, "labels loaded ahead", e));
    for (uint64_t k = 0; k < l->slots; k++) {
        l->ring[k].pixels = l->block + k * batch * l->image_bytes;
        l->ring[k].labels = l->label_block ? l->label_block + k * batch : NULL;
    }
    return DDPM_OK;
}

/* Signals are handled by the main thread: the new threads block them all. */
static ddpm_status start_threads(loader *l, err *e)
{
    sigset_t all, before;
    int rc = 0;
    TRY(mem_array(&l->thread, (size_t)l->spec.threads, sizeof *l->thread, "loader", e));
    pthread_mutex_init(&l->lock, NULL); /* cannot fail on Linux with default attributes */
    pthread_cond_init(&l->filled, NULL);
    pthread_cond_init(&l->freed, NULL);
    l->has_locks = true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (int i = 0; i < l->spec.threads && rc == 0; i++) {
        rc = pthread_create(&l->thread[i], NULL, work, l);
        l->threads += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? err_errno(e, DDPM_ENOMEM, rc, "cannot start thread %d of the loader", l->threads + 1) : DDPM_OK;
}

ddpm_status loader_create(const loader_spec *spec, loader **out, err *e)
{
    ddpm_status st = DDPM_OK;
    loader *l;
    *out = NULL;
    TRY(check_spec(spec, e));
    TRY(mem_array(&l, 1, sizeof *l, "loader", e));
    l->spec = *spec;
    if (!l->spec.stride) l->spec.stride = (uint64_t)spec->batch;
    if (!l->spec.prefetch) l->spec.prefetch = PREFETCH_DEFAULT;
    if (!l->spec.threads) l->spec.threads = 1;
    l->image_bytes = (size_t)dataset_h(spec->data) * (size_t)dataset_w(spec->data) * (size_t)dataset_c(spec->data);
    TRY_GOTO(make_ring(l, e));
    TRY_GOTO(start_threads(l, e));
    *out = l;
    l = NULL;
done:
    loader_destroy(l);
    return st;
}

void loader_destroy(loader *l)
{
    if (!l) return;
    if (l->has_locks) {
        pthread_mutex_lock(&l->lock);
        atomic_store(&l->stop, true);
        pthread_cond_broadcast(&l->freed);
        pthread_mutex_unlock(&l->lock);
        for (int i = 0; i < l->threads; i++) pthread_join(l->thread[i], NULL);
        pthread_cond_destroy(&l->freed);
        pthread_cond_destroy(&l->filled);
        pthread_mutex_destroy(&l->lock);
    }
    mem_free(l->thread);
    mem_free(l->ring);
    mem_free(l->block);
    mem_free(l->label_block);
    mem_free(l);
}
