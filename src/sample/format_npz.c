/* format_npz.c - one file, samples_50000x32x32x3.npz, for the evaluator of guided-diffusion (npz_write.h).
 *
 * Its size is known, so every picture is written at its place in a file of that size; the checksums of the arrays,
 * which stand before them, are put together of those of the pictures when all are there.  A finished file in which a
 * picture was damaged is repaired in place. */
#include "sample/picture_format.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

enum { UNIT = 1000, LABELS = 4096 };

static bool npz_owns(const char *name)
{
    char again[PICTURE_NAME];
    long long n;
    int h, w, c;
    if (sscanf(name, "samples_%lldx%dx%dx%d.npz", &n, &h, &w, &c) != 4) return false;
    (void)snprintf(again, sizeof again, "samples_%lldx%dx%dx%d.npz", n, h, w, c);
    return !strcmp(name, again);
}

static void npz_name(const picture_set *set, char name[PICTURE_NAME])
{
    (void)snprintf(name, PICTURE_NAME, "samples_%" PRId64 "x%dx%dx%d.npz", set->ids.count, set->h, set->w, set->c);
}

static bool npz_expects(const picture_set *set, const char *name)
{
    char expected[PICTURE_NAME];
    npz_name(set, expected);
    return !strcmp(name, expected);
}

static void npz_name_picture(const picture_set *set, int64_t id, char out[PICTURE_NAME])
{
    (void)set;
    (void)snprintf(out, PICTURE_NAME, "arr_0/%06" PRId64, id);
}

static ddpm_status npz_paths(const picture_set *set, char final[PATH_CAP], char work[PATH_CAP], err *e)
{
    char name[PICTURE_NAME];
    npz_name(set, name);
    TRY(picture_set_path(set, name, final, e));
    return picture_work_path(set, PICTURE_NPZ, work, e);
}

static ddpm_status fail(const picture_store *s, const char *what, err *e)
{
    char final[PATH_CAP], work[PATH_CAP];
    const int errnum = errno;
    TRY(npz_paths(s->set, final, work, e));
    if (!errnum) return err_set(e, DDPM_EIO, "%s: cannot %s: the file ends before", final, what);
    return err_errno(e, DDPM_EIO, errnum, "%s: cannot %s", final, what);
}

/* Give the file its size, and the disk's blocks where the file system can do so: a disk that is too small is found
 * now. */
static ddpm_status give_size(picture_store *s, err *e)
{
    struct stat info;
    const off_t size = (off_t)s->frame.size;
    if (fstat(s->fd, &info)) return fail(s, "be examined", e);
    if (info.st_size != size && ftruncate(s->fd, size)) return fail(s, "be given its size", e);
    int failed;
    do failed = fallocate(s->fd, 0, 0, size) ? errno : 0;
    while (failed == EINTR);
    errno = failed;
    return !failed || failed == EOPNOTSUPP || failed == ENOSYS ? DDPM_OK : fail(s, "be given its size", e);
}

/* Open the finished file, or else the unfinished one; again if another process finishes the set meanwhile: it renames
 * the file and removes the folder, and a file that is created there after that is new and empty. */
static ddpm_status open_either(picture_store *s, err *e)
{
    enum { TRIES = 100 };
    char final[PATH_CAP], work[PATH_CAP];
    const int flags = (s->reading ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK;
    TRY(npz_paths(s->set, final, work, e));
    for (int i = 0; i < TRIES; i++) {
        s->fd = open(final, flags);
        if (s->fd >= 0 || (s->reading && errno == ENOENT)) return DDPM_OK;
        if (errno != ENOENT) return fail(s, "be opened", e);
        TRY(picture_work_make(s->set->folder, e));
        s->fd = open(work, flags | O_CREAT, 0666);
        if (s->fd < 0 && errno == ENOENT) continue; /* the folder was removed */
        if (s->fd < 0) return fail(s, "be created", e);
        if (!path_exists(final)) return DDPM_OK;
        close(s->fd);
        (void)unlink(work);
    }
    errno = ENOENT;
    return fail(s, "be opened", e);
}

static ddpm_status npz_begin(picture_store *s, err *e)
{
    const picture_set *set = s->set;
    npz_lay_out(&s->frame, set->ids.count, (const int[3]){set->h, set->w, set->c}, set->label != NULL);
    TRY(open_either(s, e));
    return s->reading ? DDPM_OK : give_size(s, e);
}

static size_t bytes_of(const picture_set *set) { return (size_t)set->h * (size_t)set->w * (size_t)set->c; }
static int64_t place_of(const picture_store *s, int64_t position)
{
    return (int64_t)s->frame.pictures + position * (int64_t)bytes_of(s->set);
}

/* Complete the records of all pictures whose pixels have the known hash. */
static ddpm_status npz_check(picture_store *s, picture_unit *u, bool *whole, err *e)
{
    const size_t d = bytes_of(s->set);
    uint8_t *pixels;
    u->missing = u->n;
    *whole = false;
    if (s->fd < 0) return DDPM_OK;
    TRY(mem_array(&pixels, d, 1, "picture", e));
    for (int i = 0; i < u->n; i++) {
        picture_record *r = &u->record[i];
        r->done =
            r->known && picture_pread(s->fd, pixels, d, place_of(s, u->first + i)) && picture_hash_is(pixels, d, r);
        if (!r->done) continue;
        picture_hash(pixels, d, r);
        r->done = true;
        u->missing--;
    }
    mem_free(pixels);
    *whole = u->missing == 0;
    return DDPM_OK;
}

static ddpm_status npz_put(picture_store *s, const picture_item *item, err *e)
{
    const int64_t at = place_of(s, item->unit->first + item->index);
    return picture_pwrite(s->fd, item->bytes, bytes_of(s->set), at) ? DDPM_OK : fail(s, "be written", e);
}

/* Only the unit's own process looks at it and draws pictures again. */
static ddpm_status refuse_damaged(const picture_store *s, const picture_unit *u, err *e)
{
    int i = 0;
    while (u->record[i].done) i++;
    return err_set(e, DDPM_EDATA, "%s: picture %lld is damaged; the same command with rank=%lld ranks=%d repairs it",
                   s->set->folder, (long long)id_ranges_id(&s->set->ids, u->first + i), (long long)u->number % s->ranks,
                   s->ranks);
}

static ddpm_status npz_gather(picture_store *s, picture_unit *u, err *e)
{
    const size_t d = bytes_of(s->set);
    bool measured = true, whole;
    for (int i = 0; i < u->n; i++) measured &= u->record[i].size > 0;
    if (!measured) { /* the manifest has no checksums */
        TRY(npz_check(s, u, &whole, e));
        if (!whole && !s->reading) return refuse_damaged(s, u, e);
    }
    for (int i = 0; i < u->n; i++) s->crc = (uint32_t)crc32_combine(s->crc, u->record[i].crc, (z_off_t)d);
    return DDPM_OK;
}

/* Called with each run of labels, 8 bytes each, little-endian as the machine is. */
typedef bool label_visitor(const picture_store *s, const int64_t *labels, size_t bytes, int64_t at);

static bool each_label(const picture_store *s, label_visitor *visit, uint32_t *crc)
{
    const picture_set *set = s->set;
    int64_t labels[LABELS];
    *crc = 0;
    for (int64_t p = 0; set->label && p < set->ids.count; p += LABELS) {
        size_t n = 0;
        for (; n < LABELS && p + (int64_t)n < set->ids.count; n++)
            labels[n] = set->label(set->label_context, id_ranges_id(&set->ids, p + (int64_t)n));
        *crc = (uint32_t)crc32_z(*crc, (const Bytef *)labels, n * sizeof *labels);
        if (!visit(s, labels, n * sizeof *labels, (int64_t)s->frame.labels_at + p * (int64_t)sizeof *labels))
            return false;
    }
    return true;
}

static bool write_labels(const picture_store *s, const int64_t *labels, size_t bytes, int64_t at)
{
    return picture_pwrite(s->fd, labels, bytes, at);
}

static bool compare_labels(const picture_store *s, const int64_t *labels, size_t bytes, int64_t at)
{
    int64_t there[LABELS];
    return picture_pread(s->fd, there, bytes, at) && !memcmp(there, labels, bytes);
}

/* The unfinished file may be another one, empty, beside the finished one: a process was killed in open_either(). */
static bool is_open_file(const picture_store *s, const char *path)
{
    struct stat here, there;
    return !fstat(s->fd, &here) && !lstat(path, &there) && here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

static ddpm_status npz_end(picture_store *s, err *e)
{
    npz_frame *f = &s->frame;
    uint32_t labels;
    char final[PATH_CAP], work[PATH_CAP];
    TRY(npz_paths(s->set, final, work, e));
    if (!each_label(s, write_labels, &labels)) return fail(s, "be written", e);
    npz_seal(f, s->crc, labels);
    const npz_piece *const pieces[] = {&f->head, &f->middle, &f->tail};
    for (int i = 0; i < 3; i++)
        if (!picture_pwrite(s->fd, pieces[i]->bytes, pieces[i]->size, (int64_t)pieces[i]->at))
            return fail(s, "be written", e);
    if (fsync(s->fd)) return fail(s, "be synced to disk", e);
    if (is_open_file(s, work) && rename(work, final)) return fail(s, "be renamed into place", e);
    return DDPM_OK;
}

static ddpm_status npz_check_end(picture_store *s, bool *whole, err *e)
{
    npz_frame *f = &s->frame;
    uint8_t there[NPZ_FRAME];
    uint32_t labels;
    struct stat info;
    char final[PATH_CAP], work[PATH_CAP];
    TRY(npz_paths(s->set, final, work, e));
    *whole = s->fd >= 0 && path_exists(final) && !fstat(s->fd, &info) && (uint64_t)info.st_size == f->size &&
             each_label(s, compare_labels, &labels);
    if (!*whole) return DDPM_OK;
    npz_seal(f, s->crc, labels);
    const npz_piece *const pieces[] = {&f->head, &f->middle, &f->tail};
    for (int i = 0; i < 3; i++)
        *whole &= picture_pread(s->fd, there, pieces[i]->size, (int64_t)pieces[i]->at) &&
                  !memcmp(there, pieces[i]->bytes, pieces[i]->size);
    return DDPM_OK;
}

static ddpm_status npz_read(picture_store *s, int64_t position, uint8_t *pixels, err *e)
{
    return picture_pread(s->fd, pixels, bytes_of(s->set), place_of(s, position)) ? DDPM_OK : fail(s, "be read", e);
}

const picture_format format_npz = {
    .name = "npz",
    .shard = UNIT,
    .owns = npz_owns,
    .expects = npz_expects,
    .name_picture = npz_name_picture,
    .begin = npz_begin,
    .check = npz_check,
    .put = npz_put,
    .gather = npz_gather,
    .end = npz_end,
    .check_end = npz_check_end,
    .read = npz_read,
};
