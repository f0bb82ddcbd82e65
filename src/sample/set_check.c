#include "sample/set_check.h"
#include "base/mem.h"
#include "sample/manifest.h"
#include "sample/picture_format.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

typedef struct checker {
    const picture_set *set;
    picture_store store;
    manifest_reader manifest;
    set_reporter *report;
    bool (*stop)(void);
    void *context;
    set_result *result;
    int64_t *extra; /* [n_extra] ids that the manifest has beside the set, ascending */
    int n_extra, extra_cap;
} checker;

static void say(checker *c, set_fault fault, const char *name)
{
    c->result->fault[fault]++;
    if (c->report) c->report(c->context, fault, name);
}

static ddpm_status stopped(const checker *c, err *e)
{
    return c->stop && c->stop()
               ? err_set(e, DDPM_ESAVED, "%s: stopped before all pictures were checked", c->set->folder)
               : DDPM_OK;
}

/* ---- pictures ---- */

static bool has_file(const checker *c, const picture_unit *u, const char *name)
{
    char path[PATH_CAP];
    if (c->set->format->is_closed) return c->set->format->is_closed(&c->store, u);
    if (c->set->format->files) return picture_set_path(c->set, name, path, NULL) == DDPM_OK && path_exists(path);
    return c->store.fd >= 0;
}

static ddpm_status check_unit(checker *c, picture_unit *u, err *e)
{
    bool whole;
    TRY(c->set->format->check(&c->store, u, &whole, e));
    c->result->pictures += u->n;
    for (int i = 0; i < u->n; i++) {
        char name[PICTURE_NAME];
        if (u->record[i].done && u->record[i].known) continue;
        c->set->format->name_picture(c->set, id_ranges_id(&c->set->ids, u->first + i), name);
        say(c, u->record[i].known && has_file(c, u, name) ? SET_DAMAGED : SET_MISSING, name);
    }
    if (!whole && u->missing == 0) say(c, SET_DAMAGED, "the frame around the pictures");
    if (c->set->format->gather) TRY(c->set->format->gather(&c->store, u, e));
    return DDPM_OK;
}

/* A PNG picture of an earlier command, which the manifest has, too. */
static ddpm_status check_extra(checker *c, err *e)
{
    picture_set one = *c->set;
    picture_record record = {.known = true};
    picture_unit u = {.n = 1, .record = &record};
    checker alone = *c;
    TRY(mem_grow(&c->extra, &c->extra_cap, c->n_extra + 1, sizeof *c->extra, "pictures", e));
    c->extra[c->n_extra++] = c->manifest.id;
    memcpy(record.hash, c->manifest.hash, PICTURE_HASH);
    one.ids = (id_ranges){.n = 1, .count = 1, .range = {{c->manifest.id, c->manifest.id}}};
    alone.set = alone.store.set = &one;
    TRY(check_unit(&alone, &u, e));
    return manifest_next(&c->manifest, e);
}

static ddpm_status find_line(checker *c, int64_t id, picture_record *r, err *e)
{
    while (c->manifest.id < id) TRY(check_extra(c, e));
    if (c->manifest.id > id) return DDPM_OK;
    r->known = true;
    memcpy(r->hash, c->manifest.hash, PICTURE_HASH);
    return manifest_next(&c->manifest, e);
}

static ddpm_status check_pictures(checker *c, err *e)
{
    picture_record *records;
    ddpm_status st = DDPM_OK;
    const picture_set *set = c->set;
    TRY(mem_array(&records, (size_t)set->shard, sizeof *records, "unit", e));
    for (int64_t k = 0; k < picture_set_units(set); k++) {
        picture_unit u = picture_set_unit(set, k);
        u.record = records;
        memset(records, 0, (size_t)set->shard * sizeof *records);
        for (int i = 0; i < u.n; i++) TRY_GOTO(find_line(c, id_ranges_id(&set->ids, u.first + i), &records[i], e));
        TRY_GOTO(check_unit(c, &u, e));
        TRY_GOTO(stopped(c, e));
    }
    while (c->manifest.id < ID_END) TRY_GOTO(check_extra(c, e));
done:
    mem_free(records);
    return st;
}

/* ---- files that are not of the set ---- */

static int by_id(const void *a, const void *b)
{
    const int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Is `name`, within the set's folder, a file of the set? */
static bool belongs(const checker *c, const char *name)
{
    const picture_set *set = c->set;
    char expected[PICTURE_NAME];
    const char *slash = strrchr(name, '/');
    if (!set->format->files) return set->format->expects(set, name);
    const int64_t id = picture_id(slash ? slash + 1 : name);
    if (id < 0) return false;
    set->format->name_picture(set, id, expected);
    return !strcmp(name, expected) && (id_ranges_position(&set->ids, id) >= 0 ||
                                       (c->n_extra && bsearch(&id, c->extra, (size_t)c->n_extra, sizeof id, by_id)));
}

static ddpm_status find_unknown(checker *c, const char *subfolder, err *e)
{
    char path[PATH_CAP], name[PATH_CAP];
    ddpm_status st = DDPM_OK;
    TRY(path_join(path, c->set->folder, subfolder, e));
    DIR *d = opendir(path);
    for (const struct dirent *entry = d ? readdir(d) : NULL; entry && st == DDPM_OK; entry = readdir(d)) {
        bool ours = false;
        for (int i = 0; picture_formats[i]; i++) ours |= picture_formats[i]->owns(entry->d_name);
        const bool folder = !subfolder[0] && picture_name_is(entry->d_name, 3, "");
        if (!ours && !folder) continue;
        if (subfolder[0])
            st = path_join(name, subfolder, entry->d_name, e);
        else
            strcpy(name, entry->d_name);
        if (st == DDPM_OK && folder) st = find_unknown(c, name, e);
        if (st == DDPM_OK && ours && !belongs(c, name)) say(c, SET_UNKNOWN, name);
    }
    if (d) closedir(d);
    return st;
}

ddpm_status set_check(const picture_set *set, set_reporter *report, bool (*stop)(void), void *context,
                      set_result *result, err *e)
{
    checker c = {.set = set, .report = report, .stop = stop, .context = context, .result = result};
    char path[PATH_CAP];
    bool whole = true;
    ddpm_status st = DDPM_OK;
    *result = (set_result){0};
    TRY(picture_set_path(set, MANIFEST, path, e));
    if (!path_exists(path))
        return err_set(e, DDPM_ENOINPUT,
                       "%s: no such file: the set was never completed; the command that drew it, "
                       "repeated, draws the rest",
                       path);
    TRY_GOTO(manifest_open(&c.manifest, set, e));
    TRY_GOTO(picture_store_open(&c.store, set, true, e));
    TRY_GOTO(check_pictures(&c, e));
    if (set->format->check_end && result->fault[SET_MISSING] + result->fault[SET_DAMAGED] == 0)
        TRY_GOTO(set->format->check_end(&c.store, &whole, e));
    if (!whole) say(&c, SET_DAMAGED, "the frame around the pictures");
    TRY_GOTO(find_unknown(&c, "", e));
done:
    manifest_close(&c.manifest);
    picture_store_close(&c.store);
    free(c.extra);
    return st;
}
