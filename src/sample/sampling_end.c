#include "sample/sampling_end.h"
#include "base/mem.h"
#include "data/image.h"

#include <stdlib.h>
#include <string.h>

/* ---- is the set complete? ---- */

/* *complete: the manifest has all pictures of the unit.  Called after its journal was looked for, as the journals are
 * removed once the manifest is there. */
static ddpm_status ask_manifest(manifest_reader *r, const picture_set *set, const picture_unit *u, bool *complete,
                                err *e)
{
    TRY(manifest_refresh(r, set, e));
    for (int i = 0; i < u->n && *complete; i++) {
        picture_record record = {0};
        TRY(manifest_find(r, id_ranges_id(&set->ids, u->first + i), &record, e));
        *complete = record.known;
    }
    return DDPM_OK;
}

/* A unit is complete if its journal is full, or if it has none and the manifest knows all its pictures. */
static ddpm_status all_complete(const picture_store *s, bool *complete, err *e)
{
    const picture_set *set = s->set;
    manifest_reader r;
    ddpm_status st = manifest_open(&r, set, e);
    *complete = st == DDPM_OK;
    for (int64_t k = 0; k < picture_set_units(set) && *complete; k++) {
        const picture_unit u = picture_set_unit(set, k);
        const int full = unit_journal_is_full(set, &u);
        *complete = full != 0 && (!set->format->is_closed || set->format->is_closed(s, &u));
        if (full < 0) st = ask_manifest(&r, set, &u, complete, e);
        if (st != DDPM_OK) *complete = false;
    }
    manifest_close(&r);
    return st;
}

/* ---- the overview ---- */

static ddpm_status write_overview(picture_store *s, int columns, int *n_tiles, err *e)
{
    const picture_set *set = s->set;
    const int shape[3] = {set->h, set->w, set->c};
    const int n = set->ids.count < OVERVIEW_MAX ? (int)set->ids.count : OVERVIEW_MAX;
    const size_t d = (size_t)set->h * (size_t)set->w * (size_t)set->c;
    uint8_t *tiles = NULL, *png = NULL;
    size_t size;
    image grid = {0};
    ddpm_status st = DDPM_OK;
    *n_tiles = image_grid_tiles(n, shape, &columns);
    if (*n_tiles == 0) return DDPM_OK;
    TRY_GOTO(mem_array(&tiles, (size_t)*n_tiles, d, "overview", e));
    for (int i = 0; i < *n_tiles; i++) TRY_GOTO(set->format->read(s, i, tiles + (size_t)i * d, e));
    TRY_GOTO(image_grid(tiles, *n_tiles, shape, columns, &grid, e));
    TRY_GOTO(image_encode_png(&grid, &png, &size, e));
    TRY_GOTO(picture_work_replace(set->folder, OVERVIEW, png, size, e));
done:
    free(png);
    mem_free(tiles);
    image_free(&grid);
    return st;
}

/* ---- the manifest ---- */

/* The records of a unit's pictures. */
static ddpm_status load_unit(const picture_set *set, manifest_reader *r, picture_unit *u, bool *exists, err *e)
{
    bool tidy;
    memset(u->record, 0, (size_t)u->n * sizeof *u->record);
    TRY(unit_journal_read(set, u, exists, &tidy, e));
    for (int i = 0; i < u->n; i++) {
        const int64_t id = id_ranges_id(&set->ids, u->first + i);
        if (!*exists) TRY(manifest_find(r, id, &u->record[i], e));
        if (!u->record[i].known)
            return err_set(e, DDPM_EDATA, "%s: the journal of picture %lld is damaged; the same command repairs it",
                           set->folder, (long long)id);
    }
    return DDPM_OK;
}

/* *changed: there were journals, so that the manifest is new. */
static ddpm_status add_all(picture_store *s, manifest_reader *r, manifest_writer *w, bool *changed, err *e)
{
    const picture_set *set = s->set;
    picture_record *records;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&records, (size_t)set->shard, sizeof *records, "unit", e));
    for (int64_t k = 0; k < picture_set_units(set); k++) {
        picture_unit u = picture_set_unit(set, k);
        bool exists;
        u.record = records;
        TRY_GOTO(load_unit(set, r, &u, &exists, e));
        *changed |= exists;
        if (set->format->gather) TRY_GOTO(set->format->gather(s, &u, e));
        for (int i = 0; i < u.n; i++) TRY_GOTO(manifest_add(w, id_ranges_id(&set->ids, u.first + i), &u.record[i], e));
    }
done:
    mem_free(records);
    return st;
}

static ddpm_status end_format(picture_store *s, err *e)
{
    bool whole = true;
    if (!s->set->format->end) return DDPM_OK;
    TRY(s->set->format->check_end(s, &whole, e));
    return whole ? DDPM_OK : s->set->format->end(s, e);
}

static ddpm_status write_manifest(picture_store *s, err *e)
{
    manifest_reader r = {0};
    manifest_writer w = {0};
    bool changed = false;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(manifest_begin(&w, s->set, e));
    TRY_GOTO(manifest_open(&r, s->set, e));
    TRY_GOTO(add_all(s, &r, &w, &changed, e));
    TRY_GOTO(end_format(s, e));
    if (changed) TRY_GOTO(manifest_commit(&w, e));
done:
    manifest_abort(&w);
    manifest_close(&r);
    return st;
}

/* Pictures are not fsynced one by one: the manifest, which is, stands for what has reached the disk before. */
static ddpm_status end_locked(picture_store *s, int columns, sampling_tally *t, err *e)
{
    const picture_set *set = s->set;
    TRY(all_complete(s, &t->complete, e)); /* again: nobody changes it now */
    if (!t->complete) return DDPM_OK;
    TRY(picture_work_make(set->folder, e));
    TRY(write_overview(s, columns, &t->tiles, e));
    TRY(dir_sync_all(set->folder, e));
    TRY(write_manifest(s, e));
    picture_work_remove(set->folder);
    return dir_sync(set->folder, e);
}

/* Nobody works on a unit while this process ends the set; *ours: none does now. */
static ddpm_status lock_all(const folder_lock *lock, int64_t units, bool *ours, err *e)
{
    *ours = false;
    ddpm_status st = folder_lock_part(lock, SAMPLING_END_LOCK, 1, false, e);
    if (st == DDPM_ELOCKED) return DDPM_OK;
    TRY(st);
    st = folder_lock_part(lock, SAMPLING_UNIT_LOCKS, units, false, e);
    *ours = st == DDPM_OK;
    if (!*ours) folder_lock_leave(lock, SAMPLING_END_LOCK, 1);
    return st == DDPM_ELOCKED ? DDPM_OK : st;
}

ddpm_status sampling_end(picture_store *s, const folder_lock *lock, int columns, sampling_tally *t, err *e)
{
    const int64_t units = picture_set_units(s->set);
    bool complete, ours;
    t->complete = false;
    TRY(all_complete(s, &complete, e));
    if (!complete) return DDPM_OK;
    TRY(lock_all(lock, units, &ours, e));
    if (!ours) return DDPM_OK; /* another process works on a unit, or ends the set at this moment */
    const ddpm_status st = end_locked(s, columns, t, e);
    if (st != DDPM_OK) t->complete = false;
    folder_lock_leave(lock, SAMPLING_UNIT_LOCKS, units);
    folder_lock_leave(lock, SAMPLING_END_LOCK, 1);
    return st;
}
