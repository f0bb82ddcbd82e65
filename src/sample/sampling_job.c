#include "sample/sampling_job.h"
#include "base/mem.h"
#include "data/image.h"
#include "sample/picture_writer.h"
#include "sample/sampling_end.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

/* A unit in work: it belongs to the thread that commits pictures once the first of them was pushed. */
typedef struct open_unit {
    picture_unit unit;
    bool finished; /* protected by the job's lock */
    struct open_unit *next;
} open_unit;

struct sampling_job {
    sampling_job_spec spec;
    picture_store store;
    picture_writer *writer;
    int64_t *ids;        /* [batch] */
    picture_item *items; /* [batch] */
    uint8_t *pixels;     /* [batch, h, w, c] */
    manifest_reader manifest;
    bool manifest_opened;
    open_unit *units; /* the newest first */
    open_unit *current;
    int index;        /* of the next picture in the current unit */
    int64_t next;     /* number of the next unit */
    int64_t *skipped; /* [n_skipped] units that another process had locked */
    int n_skipped, skipped_cap, retried;
    pthread_mutex_t storing; /* for the store and the journal, while pictures are written; may be held for an fsync */
    int64_t journal_unit;
    int journal;          /* its descriptor; -1: none */
    pthread_mutex_t lock; /* for the tally and the units' .finished; held for moments */
    sampling_tally tally;
};

sampling_tally sampling_job_tally(sampling_job *j)
{
    pthread_mutex_lock(&j->lock);
    sampling_tally t = j->tally;
    pthread_mutex_unlock(&j->lock);
    if (j->writer) t.waited = picture_writer_waited(j->writer);
    return t;
}

bool sampling_job_stops(sampling_job *j)
{
    return (j->spec.stop && j->spec.stop(j->spec.context)) ||
           (j->writer && picture_writer_status(j->writer) != DDPM_OK);
}

/* ---- writing, on the writer's threads ---- */

static ddpm_status prepare(void *context, picture_item *item, err *e)
{
    sampling_job *j = context;
    const picture_set *set = j->spec.set;
    size_t size = (size_t)set->h * (size_t)set->w * (size_t)set->c;
    item->bytes = item->pixels;
    if (set->format->png) {
        const image one = {.h = set->h, .w = set->w, .c = set->c, .pixel = (uint8_t *)item->pixels};
        TRY(image_encode_png(&one, &item->png, &size, e));
        item->bytes = item->png;
    }
    picture_hash(item->bytes, size, &item->record);
    return set->format->put ? set->format->put(&j->store, item, e) : DDPM_OK;
}

static void leave_journal(sampling_job *j)
{
    if (j->journal >= 0) close(j->journal);
    j->journal = -1;
}

/* All pictures of the unit are there. */
static ddpm_status finish_unit(sampling_job *j, picture_unit *u, err *e)
{
    const picture_format *format = j->spec.set->format;
    leave_journal(j);
    if (format->close) TRY(format->close(&j->store, u, e));
    folder_lock_leave(j->spec.lock, SAMPLING_UNIT_LOCKS + u->number, 1);
    return DDPM_OK;
}

/* Store the picture and its record, and complete its unit if it was the last one missing. */
static ddpm_status store(sampling_job *j, picture_item *item, err *e)
{
    const picture_set *set = j->spec.set;
    picture_unit *u = item->unit;
    if (set->format->append) TRY(set->format->append(&j->store, item, e));
    if (j->journal < 0 || j->journal_unit != u->number) {
        leave_journal(j);
        TRY(unit_journal_open(set, u->number, &j->journal, e));
        j->journal_unit = u->number;
    }
    TRY(unit_journal_append(set, j->journal, item->id, &item->record, e));
    u->record[item->index] = item->record;
    u->record[item->index].done = true;
    return --u->missing > 0 ? DDPM_OK : finish_unit(j, u, e);
}

static ddpm_status commit(void *context, picture_item *item, err *e)
{
    sampling_job *j = context;
    pthread_mutex_lock(&j->storing);
    const ddpm_status st = store(j, item, e);
    pthread_mutex_unlock(&j->storing);
    TRY(st);
    pthread_mutex_lock(&j->lock);
    j->tally.done++;
    j->tally.drawn++;
    j->tally.bytes += item->record.size;
    if (item->unit->missing == 0) ((open_unit *)item->unit)->finished = true; /* the unit is its first member */
    pthread_mutex_unlock(&j->lock);
    return DDPM_OK;
}

/* ---- units ---- */

static void free_unit(open_unit *o)
{
    mem_free(o->unit.record);
    mem_free(o);
}

/* Free the finished units, or all. */
static void reap(sampling_job *j, bool all)
{
    pthread_mutex_lock(&j->lock);
    for (open_unit **at = &j->units; *at;) {
        open_unit *o = *at;
        if (all || (o->finished && o != j->current)) {
            *at = o->next;
            free_unit(o);
        } else {
            at = &o->next;
        }
    }
    pthread_mutex_unlock(&j->lock);
}

/* Called after the unit's journal was looked for: another process may have written a new manifest, and then removed the
 * journals. */
static ddpm_status ask_manifest(sampling_job *j, picture_unit *u, err *e)
{
    if (j->manifest_opened)
        TRY(manifest_refresh(&j->manifest, j->spec.set, e));
    else
        TRY(manifest_open(&j->manifest, j->spec.set, e));
    j->manifest_opened = true;
    for (int i = 0; i < u->n; i++)
        TRY(manifest_find(&j->manifest, id_ranges_id(&j->spec.set->ids, u->first + i), &u->record[i], e));
    return DDPM_OK;
}

static int count_known(const picture_unit *u)
{
    int known = 0;
    for (int i = 0; i < u->n; i++) known += u->record[i].known;
    return known;
}

/* Find out which pictures of the unit are there, and make its journal say just that. */
static ddpm_status take_stock(sampling_job *j, picture_unit *u, err *e)
{
    const picture_set *set = j->spec.set;
    bool exists, tidy, whole;
    TRY(unit_journal_read(set, u, &exists, &tidy, e));
    if (!exists) TRY(ask_manifest(j, u, e));
    const int known = count_known(u);
    TRY(set->format->check(&j->store, u, &whole, e));
    const int done = u->n - u->missing;
    if (known != done || !tidy || (!exists && !whole && known > 0)) TRY(unit_journal_replace(set, u, e));
    if (whole) return DDPM_OK;
    TRY(picture_work_make(set->folder, e));
    if (set->format->reopen) TRY(set->format->reopen(&j->store, u, e));
    if (u->missing > 0) return DDPM_OK;
    pthread_mutex_lock(&j->storing);
    const ddpm_status st = finish_unit(j, u, e);
    pthread_mutex_unlock(&j->storing);
    return st;
}

/* Open a unit as the current one; none is, if nothing of it is missing or another process works on it. */
static ddpm_status open_one(sampling_job *j, int64_t number, err *e)
{
    open_unit *o;
    const picture_set *set = j->spec.set;
    const ddpm_status locked = folder_lock_part(j->spec.lock, SAMPLING_UNIT_LOCKS + number, 1, false, e);
    if (locked != DDPM_OK && locked != DDPM_ELOCKED) return locked;
    if (locked == DDPM_ELOCKED) {
        TRY(mem_grow(&j->skipped, &j->skipped_cap, j->n_skipped + 1, sizeof *j->skipped, "units", e));
        j->skipped[j->n_skipped++] = number;
        return DDPM_OK;
    }
    TRY(mem_array(&o, 1, sizeof *o, "unit", e));
    o->unit = picture_set_unit(set, number);
    o->next = j->units;
    j->units = o;
    TRY(mem_array(&o->unit.record, (size_t)o->unit.n, sizeof *o->unit.record, "unit", e));
    TRY(take_stock(j, &o->unit, e));
    pthread_mutex_lock(&j->lock);
    j->tally.done += o->unit.n - o->unit.missing;
    o->finished = o->unit.missing == 0;
    pthread_mutex_unlock(&j->lock);
    if (o->finished) folder_lock_leave(j->spec.lock, SAMPLING_UNIT_LOCKS + number, 1);
    j->current = o->finished ? NULL : o;
    j->index = 0;
    return DDPM_OK;
}

static ddpm_status stopped(sampling_job *j, err *e)
{
    const sampling_tally t = sampling_job_tally(j);
    return err_set(e, DDPM_ESAVED, "stopped: %s%lld pictures are left; the same command continues with them",
                   t.seen ? "" : "at most ", (long long)(t.total - t.done));
}

static ddpm_status refuse_held(const sampling_job *j, int64_t number, err *e)
{
    char holder[FOLDER_LOCK_HOLDER];
    const picture_unit u = picture_set_unit(j->spec.set, number);
    folder_lock_holder(j->spec.lock, holder);
    return err_set(e, DDPM_ELOCKED,
                   "%s: another sampling is drawing pictures %lld to %lld (the last that began here: %s); the rest of "
                   "this part is done; the same command continues once it has ended",
                   j->spec.set->folder, (long long)id_ranges_id(&j->spec.set->ids, u.first),
                   (long long)id_ranges_id(&j->spec.set->ids, u.first + u.n - 1), holder[0] ? holder : "unknown");
}

/* Units that were locked are tried again at the end, for a while, and for as long as another process ends the set: it
 * holds all units while it reads the pictures and waits for the disk. */
static ddpm_status open_skipped(sampling_job *j, err *e)
{
    enum { TRIES = 150, PAUSE = 20000000 /* ns */ };
    static const struct timespec pause = {0, PAUSE};
    const int64_t number = j->skipped[j->retried];
    manifest_close(&j->manifest); /* it is read in ascending order */
    j->manifest_opened = false;
    for (int i = 0; i < TRIES; i += !folder_lock_is_held(j->spec.lock, SAMPLING_END_LOCK, 1)) {
        const int before = j->n_skipped;
        TRY(open_one(j, number, e));
        if (j->n_skipped == before) return j->retried++, DDPM_OK;
        j->n_skipped = before;
        if (sampling_job_stops(j)) return stopped(j, e);
        (void)nanosleep(&pause, NULL);
    }
    return refuse_held(j, number, e);
}

/* *more: there may be another unit. */
static ddpm_status open_next(sampling_job *j, bool *more, err *e)
{
    reap(j, false);
    *more = true;
    if (j->next < picture_set_units(j->spec.set)) {
        const int64_t number = j->next;
        j->next += j->spec.ranks;
        TRY(open_one(j, number, e));
    } else if (j->retried < j->n_skipped) {
        TRY(open_skipped(j, e));
    } else {
        j->tally.seen = true;
        *more = false;
        return DDPM_OK;
    }
    const sampling_tally t = sampling_job_tally(j);
    if (j->spec.tell) j->spec.tell(j->spec.context, &t);
    return sampling_job_stops(j) ? stopped(j, e) : DDPM_OK;
}

/* ---- drawing ---- */

/* Choose the pictures of the next batch, of as many units as it takes; *n 0: all are drawn. */
static ddpm_status next_batch(sampling_job *j, int *n, err *e)
{
    *n = 0;
    for (bool more = true; *n < j->spec.batch;) {
        if (!j->current) {
            if (*n > 0 && j->next >= picture_set_units(j->spec.set)) return DDPM_OK; /* what follows may be to wait */
            TRY(open_next(j, &more, e));
            if (!more) return DDPM_OK;
            continue;
        }
        picture_unit *u = &j->current->unit;
        const int i = j->index++;
        /* what is done was found before any picture of the unit was pushed, except by this loop itself */
        if (i == u->n) {
            j->current = NULL;
        } else if (!u->record[i].done) {
            j->ids[*n] = id_ranges_id(&j->spec.set->ids, u->first + i);
            j->items[*n] = (picture_item){.id = j->ids[*n], .unit = u, .index = i};
            ++*n;
        }
    }
    return DDPM_OK;
}

static ddpm_status draw_batches(sampling_job *j, err *e)
{
    for (int n;;) {
        TRY(next_batch(j, &n, e));
        if (n == 0) return DDPM_OK;
        TRY(j->spec.draw(j->spec.context, j, j->ids, n, j->pixels, e));
        TRY(picture_writer_push(j->writer, j->items, n, j->pixels, e));
    }
}

/* On return everything drawn is written, unless writing failed. */
static ddpm_status draw_all(sampling_job *j, err *e)
{
    err unwritten = {0};
    const ddpm_status st = draw_batches(j, e);
    const ddpm_status written = picture_writer_finish(j->writer, &unwritten);
    if (st != DDPM_OK && st != DDPM_ESAVED) return st;
    if (written != DDPM_OK) return err_set(e, written, "%s", unwritten.text);
    return st == DDPM_ESAVED ? stopped(j, e) : DDPM_OK;
}

/* ---- the job ---- */

static int64_t part_size(const sampling_job_spec *s)
{
    const int64_t units = picture_set_units(s->set), last = units - 1;
    const int64_t own = s->rank < units ? (last - s->rank) / s->ranks + 1 : 0;
    const bool has_last = own && last % s->ranks == s->rank;
    return own * s->set->shard - (has_last ? s->set->shard - picture_set_unit(s->set, last).n : 0);
}

static ddpm_status begin(sampling_job *j, const sampling_job_spec *spec, err *e)
{
    const picture_set *set = spec->set;
    const size_t batch = (size_t)spec->batch, d = (size_t)set->h * (size_t)set->w * (size_t)set->c;
    const picture_writer_spec writing = {.batch = spec->batch,
                                         .picture_bytes = d,
                                         .threads = spec->threads,
                                         .prepare = prepare,
                                         .commit = commit,
                                         .context = j};
    j->tally.total = part_size(spec);
    TRY(mem_array(&j->ids, batch, sizeof *j->ids, "pictures", e));
    TRY(mem_array(&j->items, batch, sizeof *j->items, "pictures", e));
    TRY(mem_array(&j->pixels, batch, d, "pictures", e));
    TRY(picture_store_open(&j->store, set, false, e));
    j->store.ranks = spec->ranks;
    return picture_writer_create(&writing, &j->writer, e);
}

ddpm_status sampling_job_run(const sampling_job_spec *spec, sampling_tally *t, err *e)
{
    sampling_job j = {.spec = *spec, .next = spec->rank, .journal = -1};
    ddpm_status st = DDPM_OK;
    pthread_mutex_init(&j.storing, NULL);
    pthread_mutex_init(&j.lock, NULL);
    TRY_GOTO(begin(&j, spec, e));
    TRY_GOTO(draw_all(&j, e));
    TRY_GOTO(sampling_end(&j.store, spec->lock, spec->columns, &j.tally, e));
done:
    *t = sampling_job_tally(&j);
    picture_writer_destroy(j.writer);
    leave_journal(&j);
    reap(&j, true);
    manifest_close(&j.manifest);
    picture_store_close(&j.store);
    mem_free(j.ids);
    mem_free(j.items);
    mem_free(j.pixels);
    free(j.skipped);
    pthread_mutex_destroy(&j.lock);
    pthread_mutex_destroy(&j.storing);
    return st;
}
