#include "sample/picture_set.h"
#include "base/arith.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include <zlib.h>

int64_t picture_set_units(const picture_set *set) { return ceil_div(set->ids.count, set->shard); }

picture_unit picture_set_unit(const picture_set *set, int64_t u)
{
    const int64_t first = u * set->shard, left = set->ids.count - first;
    const int n = left < set->shard ? (int)left : set->shard;
    return (picture_unit){.number = u, .first = first, .n = n, .missing = n};
}

void picture_name(int64_t id, char out[PICTURE_NAME]) { (void)snprintf(out, PICTURE_NAME, "%06" PRId64 ".png", id); }

int64_t picture_id(const char *name)
{
    enum { DIGITS = 18 }; /* any number of so many digits fits an int64_t */
    char again[PICTURE_NAME];
    int64_t id = 0;
    const size_t digits = strspn(name, "0123456789");
    if (digits == 0 || digits > DIGITS) return -1;
    for (size_t i = 0; i < digits; i++) id = 10 * id + (name[i] - '0');
    picture_name(id, again);
    return strcmp(name, again) ? -1 : id;
}

ddpm_status picture_set_path(const picture_set *set, const char *name, char *out, err *e)
{
    return path_join(out, set->folder, name, e);
}

ddpm_status picture_work_path(const picture_set *set, const char *name, char *out, err *e)
{
    char inside[PATH_CAP];
    TRY(path_join(inside, PICTURE_WORK, name, e));
    return path_join(out, set->folder, inside, e);
}

ddpm_status picture_work_make(const char *folder, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, folder, PICTURE_WORK, e));
    if (mkdir(path, 0777) && errno != EEXIST) return err_errno(e, DDPM_EIO, errno, "%s: cannot create", path);
    return DDPM_OK;
}

ddpm_status picture_work_replace(const char *folder, const char *name, const void *bytes, size_t size, err *e)
{
    char path[PATH_CAP], inside[PATH_CAP], work[PATH_CAP];
    TRY(path_join(path, folder, name, e));
    TRY(path_join(inside, PICTURE_WORK, name, e));
    TRY(path_join(work, folder, inside, e));
    TRY(file_write(work, bytes, size, true, e));
    return rename(work, path) ? err_errno(e, DDPM_EIO, errno, "%s: cannot write", path) : DDPM_OK;
}

/* Digits and one of the endings that unfinished files have, or one of the other names. */
static bool is_unfinished(const char *name)
{
    static const char *const ends[] = {".journal", ".journal.new", ".tar", ".png"};
    const size_t digits = strspn(name, "0123456789");
    for (size_t i = 0; digits > 0 && i < sizeof ends / sizeof *ends; i++)
        if (!strcmp(name + digits, ends[i])) return true;
    static const char *const others[] = {PICTURE_NPZ, MANIFEST, OVERVIEW, SAMPLE_SET, SAMPLE_DESCRIPTION};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (!strcmp(name, others[i])) return true;
    return false;
}

void picture_work_remove(const char *folder)
{
    char path[PATH_CAP], file[PATH_CAP];
    if (path_join(path, folder, PICTURE_WORK, NULL) != DDPM_OK) return;
    DIR *d = opendir(path);
    for (const struct dirent *entry = d ? readdir(d) : NULL; entry; entry = readdir(d))
        if (is_unfinished(entry->d_name) && path_join(file, path, entry->d_name, NULL) == DDPM_OK) (void)unlink(file);
    if (d) closedir(d);
    (void)rmdir(path); /* if it is empty now */
}

void picture_hash(const void *bytes, size_t size, picture_record *r)
{
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes, size));
    *r = (picture_record){.known = true, .crc = (uint32_t)crc32_z(0, bytes, size), .size = (int64_t)size};
    memcpy(r->hash, hash.digest, PICTURE_HASH);
}

bool picture_hash_is(const void *bytes, size_t size, const picture_record *r)
{
    XXH128_canonical_t hash;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes, size));
    return r->known && !memcmp(r->hash, hash.digest, PICTURE_HASH);
}

bool picture_pread(int fd, void *to, size_t size, int64_t at)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = pread(fd, (char *)to + done, size - done, (off_t)at + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = 0;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

bool picture_pwrite(int fd, const void *from, size_t size, int64_t at)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = pwrite(fd, (const char *)from + done, size - done, (off_t)at + (off_t)done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}
