/* dataset_losses.c - images lost after the set was opened: files that were removed, replaced or damaged. */
#include "base/mem.h"
#include "data/dataset_kind.h"
#include <pthread.h>
#include <stdio.h>

struct dataset_losses {
    pthread_mutex_t lock;
    /* protected by the lock */
    bool *lost;           /* [count] was the image ever lost? */
    int64_t bad, max_bad; /* bad images in all; most that are allowed */
    int64_t unreported;   /* images lost since the last dataset_lost() */
    err first;            /* message of the first of these */
};

ddpm_status dataset_losses_create(int64_t count, int64_t bad, int64_t max_bad, dataset_losses **out, err *e)
{
    dataset_losses *l;
    *out = NULL;
    TRY(mem_array(&l, 1, sizeof *l, "lost images", e));
    pthread_mutex_init(&l->lock, NULL); /* cannot fail on Linux with default attributes */
    l->bad = bad;
    l->max_bad = max_bad;
    *out = l;
    return mem_array(&l->lost, (size_t)count, sizeof *l->lost, "lost images", e);
}

void dataset_losses_destroy(dataset_losses *l)
{
    if (!l) return;
    pthread_mutex_destroy(&l->lock);
    mem_free(l->lost);
    mem_free(l);
}

/* Image i cannot be read for the reason `why`: count it once, and fail if there are more than max_bad. */
static ddpm_status lose(dataset_losses *l, int64_t i, const err *why, err *e)
{
    ddpm_status st = DDPM_OK;
    pthread_mutex_lock(&l->lock);
    if (!l->lost[i] && l->bad >= l->max_bad) {
        st = err_set(e, why->status, "%s (%lld bad images in total; data.max_bad=N skips up to N)", why->text,
                     (long long)l->bad + 1);
    } else if (!l->lost[i]) {
        l->bad++;
        if (l->unreported++ == 0) l->first = *why;
        l->lost[i] = true;
    }
    pthread_mutex_unlock(&l->lock);
    return st;
}

ddpm_status dataset_read_or_next(const dataset *d, int64_t index, uint8_t *pixels, int64_t *label, err *e)
{
    dataset_losses *l = d->losses;
    if (label) *label = dataset_label(d, index);
    if (!l) return dataset_read(d, index, pixels, e);
    for (int64_t k = 0; k < d->count; k++) {
        const int64_t i = (index + k) % d->count;
        err why = {0};
        const ddpm_status st = dataset_read(d, i, pixels, &why);
        if (label) *label = dataset_label(d, i);
        if (st == DDPM_OK) return DDPM_OK;
        if (st == DDPM_EINVAL) why.status = DDPM_EDATA; /* the file was replaced by an image of another size */
        if (!is_bad_image(why.status)) return err_set(e, st, "%s", why.text);
        TRY(lose(l, i, &why, e));
    }
    return err_set(e, DDPM_ENOINPUT, "none of the %lld images of the data set can be read any more",
                   (long long)d->count);
}

bool dataset_lost(const dataset *d, char *text, size_t cap)
{
    dataset_losses *l = d->losses;
    if (!l) return false;
    pthread_mutex_lock(&l->lock);
    const int64_t n = l->unreported;
    if (n > 0)
        (void)snprintf(text, cap, "%lld file%s became unreadable and will be replaced by the next image: %s",
                       (long long)n, n == 1 ? "" : "s", l->first.text);
    l->unreported = 0;
    pthread_mutex_unlock(&l->lock);
    return n > 0;
}
