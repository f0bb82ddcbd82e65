#include "sample/manifest.h"
#include "sample/picture_format.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEX = 2 * PICTURE_HASH };

ddpm_status manifest_open(manifest_reader *r, const picture_set *set, err *e)
{
    *r = (manifest_reader){.id = -1};
    TRY(picture_set_path(set, MANIFEST, r->path, e));
    r->file = fopen(r->path, "re");
    if (!r->file && errno != ENOENT) return err_errno(e, DDPM_EIO, errno, "%s: cannot open", r->path);
    return manifest_next(r, e);
}

static int digit(char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

static bool read_hash(const char *text, uint8_t hash[PICTURE_HASH])
{
    for (int i = 0; i < PICTURE_HASH; i++) {
        const int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);
        if (low < 0) return false;
        hash[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

/* The id in "000/000123.png" or "arr_0/000123"; -1: none. */
static int64_t name_id(const char *name)
{
    char *end;
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    if (*base < '0' || *base > '9') return -1;
    const long long id = strtoll(base, &end, 10);
    return id < ID_END && (!*end || !strcmp(end, ".png")) ? id : -1;
}

ddpm_status manifest_next(manifest_reader *r, err *e)
{
    const int64_t before = r->id;
    const ssize_t n = r->file ? getline(&r->line, &r->cap, r->file) : -1;
    if (n < 0) {
        if (r->file && ferror(r->file)) return err_errno(e, DDPM_EIO, errno, "%s: cannot read", r->path);
        r->id = ID_END;
        return DDPM_OK;
    }
    r->lines++;
    if (n > 0 && r->line[n - 1] == '\n') r->line[n - 1] = '\0';
    r->id = n > HEX + 2 && read_hash(r->line, r->hash) && !strncmp(r->line + HEX, "  ", 2) ? name_id(r->line + HEX + 2)
                                                                                           : -1;
    if (r->id <= before)
        return err_set(e, DDPM_EDATA,
                       "%s: line %lld is not a line of a manifest; delete the file, then repeat the command", r->path,
                       (long long)r->lines);
    return DDPM_OK;
}

ddpm_status manifest_find(manifest_reader *r, int64_t id, picture_record *record, err *e)
{
    while (r->id < id) TRY(manifest_next(r, e));
    if (r->id > id) return DDPM_OK;
    *record = (picture_record){.known = true};
    memcpy(record->hash, r->hash, PICTURE_HASH);
    return DDPM_OK;
}

ddpm_status manifest_refresh(manifest_reader *r, const picture_set *set, err *e)
{
    struct stat here, there;
    const bool open = r->file && !fstat(fileno(r->file), &here), exists = !stat(r->path, &there);
    if (open == exists && (!open || (here.st_dev == there.st_dev && here.st_ino == there.st_ino))) return DDPM_OK;
    manifest_close(r);
    return manifest_open(r, set, e);
}

void manifest_close(manifest_reader *r)
{
    if (r->file) (void)fclose(r->file);
    free(r->line);
    r->file = NULL;
    r->line = NULL;
}

/* ---- writing ---- */

ddpm_status manifest_begin(manifest_writer *w, const picture_set *set, err *e)
{
    *w = (manifest_writer){.set = set};
    TRY(manifest_open(&w->old, set, e));
    TRY(picture_set_path(set, MANIFEST, w->path, e));
    TRY(picture_work_make(set->folder, e));
    TRY(picture_work_path(set, MANIFEST, w->tmp, e));
    w->file = fopen(w->tmp, "we");
    return w->file ? DDPM_OK : err_errno(e, DDPM_EIO, errno, "%s: cannot create", w->tmp);
}

/* The old lines of pictures before `id` that are not of the set. */
static ddpm_status take_over(manifest_writer *w, int64_t id, err *e)
{
    while (w->old.id < id) {
        if (id_ranges_position(&w->set->ids, w->old.id) < 0) (void)fprintf(w->file, "%s\n", w->old.line);
        TRY(manifest_next(&w->old, e));
    }
    return DDPM_OK;
}

ddpm_status manifest_add(manifest_writer *w, int64_t id, const picture_record *r, err *e)
{
    char name[PICTURE_NAME], hex[HEX + 1];
    TRY(take_over(w, id, e));
    w->set->format->name_picture(w->set, id, name);
    for (int i = 0; i < PICTURE_HASH; i++) (void)snprintf(hex + 2 * i, 3, "%02x", r->hash[i]);
    if (fprintf(w->file, "%s  %s\n", hex, name) < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot write", w->path);
    return DDPM_OK;
}

ddpm_status manifest_commit(manifest_writer *w, err *e)
{
    TRY(take_over(w, ID_END, e));
    if (fflush(w->file) || fsync(fileno(w->file))) return err_errno(e, DDPM_EIO, errno, "%s: cannot write", w->path);
    const int closed = fclose(w->file);
    w->file = NULL;
    if (closed || rename(w->tmp, w->path)) return err_errno(e, DDPM_EIO, errno, "%s: cannot write", w->path);
    manifest_close(&w->old);
    return dir_sync(w->set->folder, e);
}

void manifest_abort(manifest_writer *w)
{
    manifest_close(&w->old);
    if (!w->file) return;
    (void)fclose(w->file);
    (void)unlink(w->tmp);
    w->file = NULL;
}
