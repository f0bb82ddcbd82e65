#include "sample/unit_journal.h"
#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* id, size, hash, crc, 4 zeros, checksum; little-endian as the machine is (the program runs on no other). */
typedef struct line {
    int64_t id, size;
    uint8_t hash[PICTURE_HASH];
    uint32_t crc, zero;
    uint64_t check;
} line;
_Static_assert(sizeof(line) == UNIT_RECORD, "a record has no gaps");

static uint64_t check_of(const picture_set *set, const line *l)
{
    return XXH3_64bits_withSeed(l, offsetof(line, check), set->stamp);
}

static ddpm_status journal_path(const picture_set *set, int64_t unit, const char *end, char *out, err *e)
{
    char name[PICTURE_NAME];
    (void)snprintf(name, sizeof name, "%07" PRId64 ".journal%s", unit, end);
    return picture_work_path(set, name, out, e);
}

static void take_line(const picture_set *set, picture_unit *unit, const line *l, int *taken)
{
    const int64_t at = l->check == check_of(set, l) ? id_ranges_position(&set->ids, l->id) - unit->first : -1;
    if (at < 0 || at >= unit->n) return;
    picture_record *r = &unit->record[at];
    *r = (picture_record){.known = true, .size = l->size, .crc = l->crc};
    memcpy(r->hash, l->hash, PICTURE_HASH);
    ++*taken;
}

ddpm_status unit_journal_read(const picture_set *set, picture_unit *unit, bool *exists, bool *tidy, err *e)
{
    enum { MOST = 1 << 30 };
    char path[PATH_CAP], *bytes = NULL;
    size_t size = 0;
    int taken = 0, known = 0;
    TRY(journal_path(set, unit->number, "", path, e));
    *exists = path_exists(path);
    *tidy = true;
    if (!*exists) return DDPM_OK;
    TRY(file_read(path, MOST, &bytes, &size, e));
    for (size_t at = 0; at + UNIT_RECORD <= size; at += UNIT_RECORD) {
        line l;
        memcpy(&l, bytes + at, sizeof l);
        take_line(set, unit, &l, &taken);
    }
    mem_free(bytes);
    for (int i = 0; i < unit->n; i++) known += unit->record[i].known;
    *tidy = known == taken && (size_t)known * UNIT_RECORD == size;
    return DDPM_OK;
}

static line line_of(const picture_set *set, int64_t id, const picture_record *r)
{
    line l = {.id = id, .size = r->size, .crc = r->crc};
    memcpy(l.hash, r->hash, PICTURE_HASH);
    l.check = check_of(set, &l);
    return l;
}

ddpm_status unit_journal_replace(const picture_set *set, const picture_unit *unit, err *e)
{
    char path[PATH_CAP], next[PATH_CAP];
    ddpm_status st = DDPM_OK;
    line *lines = NULL;
    size_t n = 0;
    TRY(picture_work_make(set->folder, e));
    TRY(journal_path(set, unit->number, "", path, e));
    TRY(journal_path(set, unit->number, ".new", next, e));
    TRY(mem_array(&lines, (size_t)unit->n, sizeof *lines, "journal", e));
    for (int i = 0; i < unit->n; i++)
        if (unit->record[i].done) lines[n++] = line_of(set, id_ranges_id(&set->ids, unit->first + i), &unit->record[i]);
    TRY_GOTO(file_write(next, lines, n * sizeof *lines, false, e));
    if (rename(next, path)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot rename into place", path));
done:
    mem_free(lines);
    return st;
}

ddpm_status unit_journal_open(const picture_set *set, int64_t unit, int *fd, err *e)
{
    char path[PATH_CAP];
    TRY(journal_path(set, unit, "", path, e));
    *fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0666);
    return *fd < 0 ? err_errno(e, DDPM_EIO, errno, "%s: cannot open", path) : DDPM_OK;
}

ddpm_status unit_journal_append(const picture_set *set, int fd, int64_t id, const picture_record *r, err *e)
{
    const line l = line_of(set, id, r);
    if (file_write_fd(fd, &l, sizeof l)) return DDPM_OK;
    return err_errno(e, DDPM_EIO, errno, "%s/" PICTURE_WORK ": cannot write a journal", set->folder);
}

int unit_journal_is_full(const picture_set *set, const picture_unit *unit)
{
    char path[PATH_CAP];
    struct stat info;
    if (journal_path(set, unit->number, "", path, NULL) != DDPM_OK || stat(path, &info)) return -1;
    return info.st_size == (off_t)unit->n * UNIT_RECORD;
}
