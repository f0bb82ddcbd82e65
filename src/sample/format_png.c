/* format_png.c - a file for each picture, 000123.png, or 000/000123.png in subfolders of 1000. */
#include "sample/picture_format.h"
#include "base/mem.h"
#include "data/image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool png_owns(const char *name) { return picture_id(name) >= 0; }

static void png_name(const picture_set *set, int64_t id, char out[PICTURE_NAME])
{
    char name[PICTURE_NAME / 2];
    (void)snprintf(name, sizeof name, "%06" PRId64 ".png", id);
    if (set->subfolders)
        (void)snprintf(out, PICTURE_NAME, "%03" PRId64 "/%s", id / PICTURE_SUBFOLDER, name);
    else
        (void)snprintf(out, PICTURE_NAME, "%s", name);
}

static ddpm_status png_path(const picture_set *set, int64_t id, char path[PATH_CAP], err *e)
{
    char name[PICTURE_NAME];
    png_name(set, id, name);
    return picture_set_path(set, name, path, e);
}

static ddpm_status png_check(picture_store *s, picture_unit *u, bool *whole, err *e)
{
    u->missing = u->n;
    for (int i = 0; i < u->n; i++) {
        char path[PATH_CAP], *bytes;
        size_t size;
        picture_record *r = &u->record[i];
        TRY(png_path(s->set, id_ranges_id(&s->set->ids, u->first + i), path, e));
        const ddpm_status st = file_read(path, IMAGE_MAX_BYTES, &bytes, &size, NULL);
        if (st == DDPM_ENOMEM) return err_set(e, st, "%s: no memory to read it", path);
        r->done = st == DDPM_OK && picture_png_is_good(s->set, bytes, size, r);
        u->missing -= r->done;
        mem_free(bytes);
    }
    *whole = u->missing == 0;
    return DDPM_OK;
}

static ddpm_status make_subfolder(const char *path, err *e)
{
    char folder[PATH_CAP];
    strcpy(folder, path);
    *strrchr(folder, '/') = '\0';
    if (mkdir(folder, 0777) && errno != EEXIST) return err_errno(e, DDPM_EIO, errno, "%s: cannot create", folder);
    return DDPM_OK;
}

/* Without fsync: every picture is compared with its record before it counts. */
static ddpm_status write_beside(const picture_item *item, const char *tmp, const char *path, err *e)
{
    const int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot create", path);
    const int failed = file_write_fd(fd, item->bytes, (size_t)item->record.size) ? 0 : errno;
    if (close(fd) || failed) return err_errno(e, DDPM_EIO, failed ? failed : errno, "%s: cannot write", path);
    return DDPM_OK;
}

static ddpm_status png_put(picture_store *s, const picture_item *item, err *e)
{
    char path[PATH_CAP], tmp[PATH_CAP], name[PICTURE_NAME];
    picture_name(item->id, name);
    TRY(png_path(s->set, item->id, path, e));
    TRY(picture_work_path(s->set, name, tmp, e));
    ddpm_status st = write_beside(item, tmp, path, e);
    bool renamed = st == DDPM_OK && !rename(tmp, path);
    if (st == DDPM_OK && !renamed && errno == ENOENT && s->set->subfolders) {
        st = make_subfolder(path, e);
        renamed = st == DDPM_OK && !rename(tmp, path);
    }
    if (st == DDPM_OK && !renamed) st = err_errno(e, DDPM_EIO, errno, "%s: cannot write", path);
    if (st != DDPM_OK) (void)unlink(tmp);
    return st;
}

static ddpm_status png_read(picture_store *s, int64_t position, uint8_t *pixels, err *e)
{
    char path[PATH_CAP], *bytes;
    size_t size;
    TRY(png_path(s->set, id_ranges_id(&s->set->ids, position), path, e));
    TRY(file_read(path, IMAGE_MAX_BYTES, &bytes, &size, e));
    const ddpm_status st = picture_png_decode(s->set, bytes, size, path, pixels, e);
    mem_free(bytes);
    return st;
}

const picture_format format_png = {
    .name = "png",
    .png = true,
    .files = true,
    .shard = PICTURE_SUBFOLDER,
    .owns = png_owns,
    .name_picture = png_name,
    .check = png_check,
    .put = png_put,
    .read = png_read,
};
