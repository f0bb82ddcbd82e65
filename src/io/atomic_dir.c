#include "io/atomic_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

static const char TEMPORARY[] = ".tmp-", REPLACED[] = ".old-";
enum { PREFIX = 5, SUFFIX = 7 };                                  /* ".tmp-" and "-xxxxxx" */
static const char letters[] = "abcdefghijklmnopqrstuvwxyz234567"; /* for the suffix */

/* parent/PREFIXname-xxxxxx, which does not exist yet, into out[PATH_CAP]. */
static ddpm_status fresh_path(char *out, const char *parent, const char *prefix, const char *name, err *e)
{
    char full[PREFIX + ATOMIC_NAME_CAP + SUFFIX + 1];
    for (int attempt = 0; attempt < 100; attempt++) {
        unsigned char bits[SUFFIX - 1];
        char suffix[SUFFIX] = "";
        if (getrandom(bits, sizeof bits, 0) != (ssize_t)sizeof bits)
            return err_errno(e, DDPM_EIO, errno, "%s: cannot generate a temporary name", parent);
        for (int i = 0; i < SUFFIX - 1; i++) suffix[i] = letters[bits[i] % 32];
        (void)snprintf(full, sizeof full, "%s%.*s-%s", prefix, ATOMIC_NAME_CAP - 1, name, suffix);
        TRY(path_join(out, parent, full, e));
        if (!path_exists(out)) return DDPM_OK;
    }
    return err_set(e, DDPM_EIO, "%s: no free temporary name; remove the folders %s* in it", parent, prefix);
}

ddpm_status atomic_dir_begin(atomic_dir *t, const char *parent, const char *name, err *e)
{
    memset(t, 0, sizeof *t);
    if (!name[0] || name[0] == '.' || strchr(name, '/') || strlen(name) >= sizeof t->name)
        return err_set(e, DDPM_EINVAL, "'%.80s' is not a valid name for a folder in %.200s", name, parent);
    if (strlen(parent) >= sizeof t->parent) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", parent);
    TRY(dir_make(parent, e));
    (void)snprintf(t->parent, sizeof t->parent, "%s", parent);
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    char path[PATH_CAP];
    TRY(fresh_path(path, parent, TEMPORARY, name, e));
    if (mkdir(path, 0777)) return err_errno(e, DDPM_EIO, errno, "%s: cannot create the folder", path);
    memcpy(t->path, path, sizeof path);
    return DDPM_OK;
}

void atomic_dir_abort(atomic_dir *t)
{
    if (!t->path[0]) return;
    const ddpm_status left = dir_remove(t->path, NULL);
    (void)left; /* the next sweep removes the .tmp-* folder */
    t->path[0] = '\0';
}

static ddpm_status file_sync(const char *path, err *e)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open", path);
    const int failed = fsync(fd) ? errno : 0;
    close(fd);
    if (failed) return err_errno(e, DDPM_EIO, failed, "%s: cannot sync to disk", path);
    return DDPM_OK;
}

static bool is_dot(const char *name) { return !strcmp(name, ".") || !strcmp(name, ".."); }

/* fsync all files below path and all folders, each folder after its contents. */
static ddpm_status tree_sync(const char *path, err *e)
{
    ddpm_status st = DDPM_OK;
    DIR *d = opendir(path);
    if (!d) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", path);
    for (const struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        char child[PATH_CAP];
        struct stat info;
        if (is_dot(entry->d_name)) continue;
        TRY_GOTO(path_join(child, path, entry->d_name, e));
        if (lstat(child, &info)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot stat", child));
        if (S_ISDIR(info.st_mode)) TRY_GOTO(tree_sync(child, e));
        if (S_ISREG(info.st_mode)) TRY_GOTO(file_sync(child, e));
    }
    TRY_GOTO(dir_sync(path, e));
done:
    closedir(d);
    return st;
}

/* Replace the existing `to` by t->path on a file system without RENAME_EXCHANGE.  The old folder is moved
 * to t->path, for the caller to remove. */
static ddpm_status replace_in_steps(const atomic_dir *t, const char *to, err *e)
{
    char old[PATH_CAP];
    TRY(fresh_path(old, t->parent, REPLACED, t->name, e));
    if (rename(to, old)) return err_errno(e, DDPM_EIO, errno, "%s: cannot rename for replacement", to);
    ddpm_status st = DDPM_OK;
    if (rename(t->path, to)) st = err_errno(e, DDPM_EIO, errno, "%s: cannot rename into place", to);
    if (st == DDPM_OK) {
        st = dir_sync(t->parent, e);
        if (st == DDPM_OK && rename(old, t->path)) return dir_remove(old, NULL);
        if (st == DDPM_OK || rename(to, t->path)) return st;
    }
    if (rename(old, to)) /* if this fails, the next sweep restores the old folder */
        return err_set(e, DDPM_EIO, "%s: cannot be replaced; the previous version is %s", to, old);
    return st;
}

static ddpm_status exchange(const atomic_dir *t, const char *to, err *e)
{
    if (renameat2(AT_FDCWD, t->path, AT_FDCWD, to, RENAME_EXCHANGE)) {
        if (errno == EINVAL || errno == ENOSYS || errno == EXDEV || errno == EOPNOTSUPP)
            return replace_in_steps(t, to, e);
        return err_errno(e, DDPM_EIO, errno, "%s: cannot be exchanged with the new version", to);
    }
    const ddpm_status st = dir_sync(t->parent, e);
    if (st != DDPM_OK && renameat2(AT_FDCWD, t->path, AT_FDCWD, to, RENAME_EXCHANGE))
        return err_errno(e, DDPM_EIO, errno, "%s: cannot be synced to disk, nor renamed back", to);
    return st;
}

/* On success t->path does not exist or is the old folder; on failure it is the new one. */
static ddpm_status move_into_place(const atomic_dir *t, err *e)
{
    char to[PATH_CAP];
    TRY(path_join(to, t->parent, t->name, e));
    if (path_exists(to)) return exchange(t, to, e);
    if (rename(t->path, to)) return err_errno(e, DDPM_EIO, errno, "%s: cannot rename into place", to);
    const ddpm_status st = dir_sync(t->parent, e);
    if (st != DDPM_OK && rename(to, t->path))
        return err_errno(e, DDPM_EIO, errno, "%s: cannot be synced to disk, nor renamed back", to);
    return st;
}

ddpm_status atomic_dir_commit(atomic_dir *t, err *e)
{
    if (!t->path[0]) return err_set(e, DDPM_EINVAL, "nothing to commit");
    ddpm_status st = tree_sync(t->path, e);
    if (st == DDPM_OK) st = move_into_place(t, e);
    atomic_dir_abort(t); /* on success this removes the old folder, if any */
    return st;
}

ddpm_status atomic_dir_delete(const char *parent, const char *name, err *e)
{
    char from[PATH_CAP], to[PATH_CAP];
    TRY(path_join(from, parent, name, e));
    if (!path_exists(from)) return DDPM_OK;
    TRY(fresh_path(to, parent, TEMPORARY, name, e));
    if (rename(from, to)) return err_errno(e, DDPM_EIO, errno, "%s: cannot rename for removal", from);
    return dir_remove(to, e);
}

/* Is `entry` a name made by fresh_path() with `prefix`?  If so, store its NAME in name[ATOMIC_NAME_CAP]. */
static bool is_fresh(const char *entry, const char *prefix, char *name)
{
    const size_t n = strlen(entry);
    if (strncmp(entry, prefix, PREFIX) || n <= PREFIX + SUFFIX || n - PREFIX - SUFFIX >= ATOMIC_NAME_CAP) return false;
    const char *suffix = entry + n - SUFFIX;
    if (suffix[0] != '-' || strspn(suffix + 1, letters) != SUFFIX - 1) return false;
    (void)snprintf(name, ATOMIC_NAME_CAP, "%.*s", (int)(n - PREFIX - SUFFIX), entry + PREFIX);
    return true;
}

/* Rename .old-NAME-xxxxxx back to NAME if NAME is missing. */
static ddpm_status sweep_replaced(const char *parent, const char *entry, const char *name, err *e)
{
    char from[PATH_CAP], to[PATH_CAP];
    TRY(path_join(from, parent, entry, e));
    TRY(path_join(to, parent, name, e));
    if (path_exists(to)) return dir_remove(from, e);
    if (rename(from, to)) return err_errno(e, DDPM_EIO, errno, "%s: cannot be restored from %s", to, from);
    return dir_sync(parent, e);
}

static ddpm_status sweep_entry(const char *parent, const char *entry, err *e)
{
    char path[PATH_CAP], name[ATOMIC_NAME_CAP];
    if (is_fresh(entry, REPLACED, name)) return sweep_replaced(parent, entry, name, e);
    if (!is_fresh(entry, TEMPORARY, name)) return DDPM_OK;
    TRY(path_join(path, parent, entry, e));
    return dir_remove(path, e);
}

void atomic_dir_sweep(const char *parent, notes *left)
{
    DIR *d = opendir(parent);
    for (const struct dirent *entry = d ? readdir(d) : NULL; entry; entry = readdir(d)) {
        err why = {0};
        if (sweep_entry(parent, entry->d_name, &why) != DDPM_OK) notes_add(left, "%s", why.text);
    }
    if (d) closedir(d);
}
