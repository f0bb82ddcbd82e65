#include "base/file.h"
#include "base/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

ddpm_status path_join(char *out, const char *dir, const char *name, err *e)
{
    const int n = snprintf(out, PATH_CAP, "%s/%s", dir, name);
    if (n < 0 || n >= PATH_CAP)
        return err_set(e, DDPM_EINVAL, "path too long: %.80s.../%.80s (at most %d bytes)", dir, name, PATH_CAP - 1);
    return DDPM_OK;
}

static ddpm_status read_all(int fd, char *to, size_t size, const char *path, err *e)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = read(fd, to + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot read", path);
        if (n == 0) return err_set(e, DDPM_EDATA, "%s: ended after %zu of %zu bytes", path, done, size);
        done += (size_t)n;
    }
    return DDPM_OK;
}

ddpm_status file_read(const char *path, size_t max_bytes, char **bytes, size_t *size, err *e)
{
    ddpm_status st = DDPM_OK;
    struct stat info;
    *bytes = NULL;
    *size = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never blocks on a FIFO */
    if (fd < 0) return err_errno(e, DDPM_ENOINPUT, errno, "%s: cannot open", path);
    if (fstat(fd, &info)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot stat", path));
    if (!S_ISREG(info.st_mode)) TRY_GOTO(err_set(e, DDPM_EDATA, "%s: not a regular file", path));
    if ((uint64_t)info.st_size > max_bytes)
        TRY_GOTO(err_set(e, DDPM_EDATA, "%s: %lld bytes, more than the limit of %zu", path, (long long)info.st_size,
                         max_bytes));
    TRY_GOTO(mem_array(bytes, (size_t)info.st_size + 1, 1, path, e));
    TRY_GOTO(read_all(fd, *bytes, (size_t)info.st_size, path, e));
    *size = (size_t)info.st_size;
done:
    close(fd);
    if (st != DDPM_OK) {
        mem_free(*bytes);
        *bytes = NULL;
    }
    return st;
}

bool file_write_fd(int fd, const void *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(fd, (const char *)bytes + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

/* ---- the target of a path ---- */

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* Length of a path's folder part, including the last slash. */
static size_t folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* Follow symbolic links to the target, which need not exist. */
static ddpm_status follow(const char *path, char at[PATH_CAP], err *e)
{
    enum { LINKS = 40 };
    char to[PATH_CAP];
    struct stat info;
    if (strlen(path) >= PATH_CAP) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", path);
    strcpy(at, path);
    for (int i = 0; i < LINKS; i++) {
        if (lstat(at, &info) || !S_ISLNK(info.st_mode)) return DDPM_OK;
        const ssize_t n = readlink(at, to, sizeof to - 1);
        if (n < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot follow the link", path);
        to[n] = '\0';
        const size_t dir = to[0] == '/' ? 0 : folder_of(at);
        if (dir + (size_t)n >= PATH_CAP) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", path);
        strcpy(at + dir, to);
    }
    return err_errno(e, DDPM_EIO, ELOOP, "%s: cannot follow the link", path);
}

/* `real` is the existing or future target of the path.  *stream: the target must be written in place, because it is not
 * a regular file, or is reachable only by an open descriptor (/dev/stdout). */
static ddpm_status find_target(const char *path, char real[PATH_CAP], bool *stream, err *e)
{
    struct stat info, end;
    const bool there = stat(path, &info) == 0;
    *stream = there && !S_ISREG(info.st_mode);
    if (*stream && S_ISDIR(info.st_mode)) return err_errno(e, DDPM_EIO, EISDIR, "%s: cannot write", path);
    TRY(follow(path, real, e));
    if (there && (stat(real, &end) || !same_file(&info, &end))) *stream = true;
    if (*stream) strcpy(real, path);
    return DDPM_OK;
}

/* ---- writing ---- */

/* Open without blocking, so that a FIFO without a reader is an error.  `path` is the name for messages. */
static ddpm_status open_to_write(const char *real, int flags, const char *path, int *fd, err *e)
{
    *fd = open(real, O_WRONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | flags, 0666);
    if (*fd < 0 && errno == ENXIO)
        return err_set(e, DDPM_EIO, "%s: cannot write to a FIFO that no process reads", path);
    if (*fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot %s", path, flags & O_CREAT ? "create" : "open");
    (void)fcntl(*fd, F_SETFL, fcntl(*fd, F_GETFL) & ~O_NONBLOCK); /* writes to a slow reader block */
    return DDPM_OK;
}

typedef struct content {
    const void *bytes;
    size_t size;
    bool durable;
} content;

/* Write the content to fd and close it. */
static ddpm_status fill(int fd, const content *c, const char *path, err *e)
{
    ddpm_status st = DDPM_OK;
    if (!file_write_fd(fd, c->bytes, c->size)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot write", path));
    if (c->durable && fsync(fd)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot sync to disk", path));
done:
    if (close(fd) && st == DDPM_OK) st = err_errno(e, DDPM_EIO, errno, "%s: cannot close", path);
    return st;
}

static ddpm_status write_stream(const char *path, const void *bytes, size_t size, err *e)
{
    int fd = -1;
    TRY(open_to_write(path, 0, path, &fd, e));
    return fill(fd, &(content){bytes, size, false}, path, e);
}

ddpm_status file_write(const char *path, const void *bytes, size_t size, bool durable, err *e)
{
    char real[PATH_CAP];
    bool stream;
    int fd = -1;
    TRY(find_target(path, real, &stream, e));
    if (stream) return write_stream(path, bytes, size, e);
    TRY(open_to_write(real, O_CREAT | O_TRUNC, path, &fd, e));
    const ddpm_status st = fill(fd, &(content){bytes, size, durable}, path, e);
    if (st != DDPM_OK) unlink(real);
    return st;
}

/* .ddpm-1234-5.tmp: number 5 of process 1234 */
static const char TEMPORARY[] = ".ddpm-%ld-%u.tmp";

static bool read_temporary(const char *name, long *process)
{
    char again[FILE_TEMPORARY];
    unsigned number;
    if (sscanf(name, TEMPORARY, process, &number) != 2) return false;
    (void)snprintf(again, sizeof again, TEMPORARY, *process, number);
    return !strcmp(name, again) && *process > 0;
}

bool file_is_temporary(const char *name)
{
    long process;
    return read_temporary(name, &process);
}

/* Is it a temporary file of a process that no longer exists?  It must also be old: the process may run in another
 * container, with its own process numbers. */
static bool is_leftover(const char *path, const char *name)
{
    enum { HOUR = 3600 };
    struct stat info;
    long process;
    return read_temporary(name, &process) && kill((pid_t)process, 0) && errno == ESRCH && !lstat(path, &info) &&
           info.st_mtime < time(NULL) - HOUR;
}

void dir_sweep_temporaries(const char *path)
{
    char file[PATH_CAP];
    DIR *d = opendir(path);
    for (const struct dirent *entry = d ? readdir(d) : NULL; entry; entry = readdir(d))
        if (path_join(file, path, entry->d_name, NULL) == DDPM_OK && is_leftover(file, entry->d_name))
            (void)unlink(file); /* a failure is harmless */
    if (d) closedir(d);
}

bool path_same(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && same_file(&x, &y);
}

/* Create a temporary file in the folder of `real`. */
static ddpm_status create_beside(const char *real, const char *path, char tmp[PATH_CAP], int *fd, err *e)
{
    enum { TRIES = 100 }; /* an earlier process with the same number may have left files */
    static atomic_uint count;
    const size_t dir = folder_of(real);
    if (dir + FILE_TEMPORARY > PATH_CAP) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", path);
    memcpy(tmp, real, dir);
    for (int i = 0; i < TRIES; i++) {
        (void)snprintf(tmp + dir, FILE_TEMPORARY, TEMPORARY, (long)getpid(), atomic_fetch_add(&count, 1));
        *fd = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd >= 0) return DDPM_OK;
        if (errno != EEXIST) break;
    }
    return err_errno(e, DDPM_EIO, errno, "%s: cannot create", path);
}

static ddpm_status replace(const char *path, const content *c, err *e)
{
    char real[PATH_CAP], tmp[PATH_CAP];
    bool stream;
    int fd = -1;
    TRY(find_target(path, real, &stream, e));
    if (stream) return write_stream(path, c->bytes, c->size, e);
    TRY(create_beside(real, path, tmp, &fd, e));
    ddpm_status st = fill(fd, c, path, e);
    if (st == DDPM_OK && rename(tmp, real)) st = err_errno(e, DDPM_EIO, errno, "%s: cannot rename into place", path);
    if (st != DDPM_OK) unlink(tmp);
    return st;
}

ddpm_status file_replace(const char *path, const void *bytes, size_t size, err *e)
{
    return replace(path, &(content){bytes, size, true}, e);
}

ddpm_status file_replace_lazily(const char *path, const void *bytes, size_t size, err *e)
{
    return replace(path, &(content){bytes, size, false}, e);
}

ddpm_status file_writable(const char *path, err *e)
{
    char real[PATH_CAP];
    bool stream;
    TRY(find_target(path, real, &stream, e));
    if (!stream) {
        char *slash = strrchr(real, '/');
        const size_t dir = folder_of(real);
        if (dir + FILE_TEMPORARY > PATH_CAP) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", path);
        strcpy(slash == real ? real + 1 : slash ? slash : real, slash ? "" : "."); /* now the path of its folder */
    }
    if (access(real, stream ? W_OK : W_OK | X_OK)) return err_errno(e, DDPM_EIO, errno, "%s: cannot write", path);
    return DDPM_OK;
}

/* ---- folders ---- */

ddpm_status dir_writable(const char *path, err *e)
{
    char there[PATH_CAP];
    if (strlen(path) >= sizeof there) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", path);
    strcpy(there, path);
    while (!path_exists(there)) { /* find the last existing folder: the missing ones would be created in it */
        char *slash = strrchr(there, '/');
        if (!slash)
            strcpy(there, ".");
        else
            slash[slash == there] = '\0'; /* "/a" becomes "/" */
    }
    if (!path_is_dir(there)) return err_set(e, DDPM_EIO, "%s: %s is not a folder", path, there);
    if (access(there, W_OK | X_OK)) return err_errno(e, DDPM_EIO, errno, "%s: %s cannot be written to", path, there);
    return DDPM_OK;
}

ddpm_status dir_make(const char *path, err *e)
{
    char part[PATH_CAP];
    const size_t n = strlen(path);
    if (n == 0) return err_set(e, DDPM_EINVAL, "the name of a folder is empty");
    if (n >= sizeof part) return err_set(e, DDPM_EINVAL, "path too long: %.80s...", path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        const char was = part[i];
        part[i] = '\0';
        if (mkdir(part, 0777) && errno != EEXIST)
            return err_errno(e, DDPM_EIO, errno, "%s: cannot create the folder", part);
        part[i] = was;
    }
    if (!path_is_dir(path)) return err_set(e, DDPM_EIO, "%s: is a file; a folder is required", path);
    return DDPM_OK;
}

static ddpm_status sync_folder(const char *path, int sync(int fd), err *e)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", path);
    const int failed = sync(fd) ? errno : 0;
    close(fd);
    if (failed) return err_errno(e, DDPM_EIO, failed, "%s: cannot sync the folder to disk", path);
    return DDPM_OK;
}

ddpm_status dir_sync(const char *path, err *e) { return sync_folder(path, fsync, e); }
ddpm_status dir_sync_all(const char *path, err *e) { return sync_folder(path, syncfs, e); }

ddpm_status dir_remove(const char *path, err *e)
{
    struct stat info;
    if (lstat(path, &info)) return DDPM_OK;
    if (!S_ISDIR(info.st_mode)) {
        if (unlink(path) && errno != ENOENT) return err_errno(e, DDPM_EIO, errno, "%s: cannot remove", path);
        return DDPM_OK;
    }
    DIR *d = opendir(path);
    if (!d) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", path);
    ddpm_status st = DDPM_OK;
    for (const struct dirent *entry = readdir(d); entry && st == DDPM_OK; entry = readdir(d)) {
        char child[PATH_CAP];
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        st = path_join(child, path, entry->d_name, e);
        if (st == DDPM_OK) st = dir_remove(child, e);
    }
    closedir(d);
    TRY(st);
    if (rmdir(path) && errno != ENOENT) return err_errno(e, DDPM_EIO, errno, "%s: cannot remove the folder", path);
    return DDPM_OK;
}

bool path_exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

bool path_is_dir(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}
