/* format_tar.c - shards for WebDataset: 00000.tar with `shard` pictures, 000000.png, 000001.png, ... and, where there are
 * labels, 000000.cls after each: the label in decimal.
 *
 * A shard is written in the order of the ids to the folder of unfinished files, and renamed when it is complete. */
#include "sample/picture_format.h"
#include "base/mem.h"
#include "data/image.h"
#include "io/tar_write.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SHARD_DIGITS = 5, LABEL_CAP = 24 };

static bool tar_owns(const char *name) { return picture_name_is(name, SHARD_DIGITS, ".tar"); }

static bool tar_expects(const picture_set *set, const char *name)
{
    return tar_owns(name) && strtoll(name, NULL, 10) < picture_set_units(set);
}

static void tar_name_picture(const picture_set *set, int64_t id, char out[PICTURE_NAME])
{
    (void)set;
    picture_name(id, out);
}

static ddpm_status shard_paths(const picture_set *set, int64_t u, char final[PATH_CAP], char work[PATH_CAP], err *e)
{
    char name[PICTURE_NAME];
    (void)snprintf(name, sizeof name, "%0*" PRId64 ".tar", SHARD_DIGITS, u);
    TRY(picture_set_path(set, name, final, e));
    return picture_work_path(set, name, work, e);
}

/* ---- reading ---- */

/* Compare a member of known contents at *at, and go past it. */
static bool expect_member(int fd, const char *name, const char *text, int64_t *at)
{
    uint8_t want[2 * TAR_BLOCK] = {0}, got[2 * TAR_BLOCK];
    const size_t n = strlen(text);
    tar_header(want, name, (int64_t)n);
    memcpy(want + TAR_BLOCK, text, n);
    if (!picture_pread(fd, got, sizeof got, *at) || memcmp(want, got, sizeof got) != 0) return false;
    *at += (int64_t)sizeof got;
    return true;
}

/* The label's member of picture `id`; false: there are no labels. */
static bool label_member(const picture_set *set, int64_t id, char name[PICTURE_NAME], char text[LABEL_CAP])
{
    if (!set->label) return false;
    (void)snprintf(name, PICTURE_NAME, "%06" PRId64 ".cls", id);
    (void)snprintf(text, LABEL_CAP, "%" PRId64, set->label(set->label_context, id));
    return true;
}

/* Read the PNG file of picture `id` at `at` with its padding into *bytes[*size + padding]; free with mem_free().
 * *size -1: there is no such member. */
static ddpm_status read_member(int fd, int64_t id, int64_t at, char **bytes, int64_t *size, err *e)
{
    uint8_t head[TAR_BLOCK], want[TAR_BLOCK];
    char name[PICTURE_NAME];
    *bytes = NULL;
    *size = picture_pread(fd, head, sizeof head, at) ? tar_header_size(head) : -1;
    if (*size < 0 || *size > IMAGE_MAX_BYTES) return *size = -1, DDPM_OK;
    picture_name(id, name);
    tar_header(want, name, *size);
    if (memcmp(head, want, sizeof want) != 0) return *size = -1, DDPM_OK;
    const size_t all = (size_t)*size + (size_t)tar_padding(*size);
    TRY(mem_array(bytes, all + 1, 1, "member of a shard", e));
    if (!picture_pread(fd, *bytes, all, at + TAR_BLOCK)) *size = -1;
    return DDPM_OK;
}

static bool are_zeros(const char *bytes, int n)
{
    for (int i = 0; i < n; i++)
        if (bytes[i]) return false;
    return true;
}

/* Is picture i at u->size as its record says?  Then go past it. */
static ddpm_status check_one(picture_store *s, picture_unit *u, int i, int fd, err *e)
{
    char *bytes, name[PICTURE_NAME], text[LABEL_CAP];
    int64_t size, at = u->size;
    const int64_t id = id_ranges_id(&s->set->ids, u->first + i);
    picture_record *r = &u->record[i];
    TRY(read_member(fd, id, at, &bytes, &size, e));
    r->done =
        size >= 0 && are_zeros(bytes + size, tar_padding(size)) && picture_png_is_good(s->set, bytes, (size_t)size, r);
    mem_free(bytes);
    if (size < 0 || (!r->done && !s->reading)) return DDPM_OK;
    at += tar_member(size);
    if (label_member(s->set, id, name, text) && !expect_member(fd, name, text, &at)) r->done = false;
    if (r->done || s->reading) u->size = at; /* behind a damaged picture, others may be found */
    return DDPM_OK;
}

static bool ends_here(int fd, int64_t at)
{
    char end[TAR_END];
    struct stat info;
    return !fstat(fd, &info) && info.st_size == at + TAR_END && picture_pread(fd, end, sizeof end, at) &&
           are_zeros(end, TAR_END);
}

static ddpm_status tar_check(picture_store *s, picture_unit *u, bool *whole, err *e)
{
    char final[PATH_CAP], work[PATH_CAP];
    TRY(shard_paths(s->set, u->number, final, work, e));
    u->size = 0;
    u->missing = u->n;
    *whole = false;
    int fd = open(final, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    const bool closed = fd >= 0;
    if (!closed && !s->reading) fd = open(work, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return DDPM_OK;
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < u->n && st == DDPM_OK; i++) {
        const int64_t before = u->size;
        st = check_one(s, u, i, fd, e);
        u->missing -= u->record[i].done;
        if (u->size == before) break;
    }
    *whole = closed && u->missing == 0 && ends_here(fd, u->size);
    close(fd);
    return st;
}

static ddpm_status tar_read(picture_store *s, int64_t position, uint8_t *pixels, err *e)
{
    const picture_unit u = picture_set_unit(s->set, position / s->set->shard);
    char final[PATH_CAP], work[PATH_CAP], name[PICTURE_NAME], text[LABEL_CAP], *bytes = NULL;
    int64_t size = 0;
    ddpm_status st = DDPM_OK;
    TRY(shard_paths(s->set, u.number, final, work, e));
    const int fd = open(final, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open", final);
    for (int64_t at = 0, p = u.first; p <= position && size >= 0; p++) {
        const int64_t id = id_ranges_id(&s->set->ids, p);
        mem_free(bytes);
        TRY_GOTO(read_member(fd, id, at, &bytes, &size, e));
        at += tar_member(size) + (label_member(s->set, id, name, text) ? 2 * TAR_BLOCK : 0);
    }
    st = size < 0 ? err_set(e, DDPM_EDATA, "%s: damaged", final)
                  : picture_png_decode(s->set, bytes, (size_t)size, final, pixels, e);
done:
    mem_free(bytes);
    close(fd);
    return st;
}

/* ---- writing ---- */

static ddpm_status tar_reopen(picture_store *s, picture_unit *u, err *e)
{
    char final[PATH_CAP], work[PATH_CAP];
    TRY(shard_paths(s->set, u->number, final, work, e));
    TRY(picture_work_make(s->set->folder, e));
    if (path_exists(final) && rename(final, work))
        return err_errno(e, DDPM_EIO, errno, "%s: is damaged and cannot be renamed", final);
    return DDPM_OK;
}

static void leave(picture_store *s)
{
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    s->unit = -1;
}

/* Open the unfinished shard, cut after its last whole member. */
static ddpm_status enter(picture_store *s, const picture_unit *u, err *e)
{
    char final[PATH_CAP], work[PATH_CAP];
    if (s->unit == u->number) return DDPM_OK;
    leave(s);
    TRY(shard_paths(s->set, u->number, final, work, e));
    s->fd = open(work, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (s->fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot create", work);
    s->unit = u->number;
    return ftruncate(s->fd, u->size) ? err_errno(e, DDPM_EIO, errno, "%s: cannot cut", work) : DDPM_OK;
}

/* Write a member at *at, and go past it. */
static bool write_member(int fd, const char *name, const void *bytes, int64_t size, int64_t *at)
{
    static const uint8_t zeros[TAR_BLOCK];
    uint8_t head[TAR_BLOCK];
    tar_header(head, name, size);
    if (!picture_pwrite(fd, head, sizeof head, *at)) return false;
    if (!picture_pwrite(fd, bytes, (size_t)size, *at + TAR_BLOCK)) return false;
    if (!picture_pwrite(fd, zeros, (size_t)tar_padding(size), *at + TAR_BLOCK + size)) return false;
    *at += tar_member(size);
    return true;
}

static ddpm_status tar_append(picture_store *s, const picture_item *item, err *e)
{
    char name[PICTURE_NAME], text[LABEL_CAP];
    int64_t at = item->unit->size;
    TRY(enter(s, item->unit, e));
    picture_name(item->id, name);
    bool good = write_member(s->fd, name, item->bytes, item->record.size, &at);
    if (good && label_member(s->set, item->id, name, text))
        good = write_member(s->fd, name, text, (int64_t)strlen(text), &at);
    if (!good)
        return err_errno(e, DDPM_EIO, errno, "%s/%0*" PRId64 ".tar: cannot write", s->set->folder, SHARD_DIGITS,
                         s->unit);
    item->unit->size = at;
    return DDPM_OK;
}

static ddpm_status tar_close(picture_store *s, picture_unit *u, err *e)
{
    static const uint8_t zeros[TAR_END];
    char final[PATH_CAP], work[PATH_CAP];
    TRY(shard_paths(s->set, u->number, final, work, e));
    TRY(enter(s, u, e));
    if (!picture_pwrite(s->fd, zeros, sizeof zeros, u->size) || fdatasync(s->fd))
        return err_errno(e, DDPM_EIO, errno, "%s: cannot write", final);
    leave(s);
    return rename(work, final) ? err_errno(e, DDPM_EIO, errno, "%s: cannot write", final) : DDPM_OK;
}

static bool tar_is_closed(const picture_store *s, const picture_unit *u)
{
    char final[PATH_CAP], work[PATH_CAP];
    return shard_paths(s->set, u->number, final, work, NULL) == DDPM_OK && path_exists(final);
}

const picture_format format_tar = {
    .name = "tar",
    .png = true,
    .owns = tar_owns,
    .expects = tar_expects,
    .name_picture = tar_name_picture,
    .check = tar_check,
    .reopen = tar_reopen,
    .append = tar_append,
    .close = tar_close,
    .is_closed = tar_is_closed,
    .read = tar_read,
};
