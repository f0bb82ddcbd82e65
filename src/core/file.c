#include "core/file.h"
#include "core/mem.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang us */
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

static ddpm_status write_all(int fd, const char *from, size_t size, const char *path, err *e)
{
    for (size_t done = 0; done < size;) {
        const ssize_t n = write(fd, from + done, size - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot write", path);
        done += (size_t)n;
    }
    return DDPM_OK;
}

ddpm_status file_write(const char *path, const void *bytes, size_t size, bool durable, err *e)
{
    ddpm_status st = DDPM_OK;
    const int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot create", path);
    TRY_GOTO(write_all(fd, bytes, size, path, e));
    if (durable && fsync(fd)) TRY_GOTO(err_errno(e, DDPM_EIO, errno, "%s: cannot sync to disk", path));
done:
    if (close(fd) && st == DDPM_OK) st = err_errno(e, DDPM_EIO, errno, "%s: cannot close", path);
    if (st != DDPM_OK) unlink(path);
    return st;
}

ddpm_status file_replace(const char *path, const void *bytes, size_t size, err *e)
{
    char tmp[PATH_CAP + 8];
    (void)snprintf(tmp, sizeof tmp, "%s.tmp", path);
    TRY(file_write(tmp, bytes, size, false, e));
    if (rename(tmp, path)) {
        const int why = errno;
        unlink(tmp);
        return err_errno(e, DDPM_EIO, why, "%s: cannot rename into place", path);
    }
    return DDPM_OK;
}

ddpm_status dir_make(const char *path, err *e)
{
    char part[PATH_CAP];
    const size_t n = strlen(path);
    if (n == 0 || n >= sizeof part) return err_set(e, DDPM_EINVAL, "folder name of %zu bytes: '%.80s'", n, path);
    memcpy(part, path, n + 1);
    for (size_t i = 1; i <= n; i++) {
        if (part[i] != '/' && part[i] != '\0') continue;
        const char was = part[i];
        part[i] = '\0';
        if (mkdir(part, 0777) && errno != EEXIST)
            return err_errno(e, DDPM_EIO, errno, "%s: cannot create the folder", part);
        part[i] = was;
    }
    if (!path_is_dir(path)) return err_set(e, DDPM_EIO, "%s: is a file, and a folder is needed there", path);
    return DDPM_OK;
}

ddpm_status dir_sync(const char *path, err *e)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open the folder", path);
    const int failed = fsync(fd) ? errno : 0;
    close(fd);
    if (failed) return err_errno(e, DDPM_EIO, failed, "%s: cannot sync the folder to disk", path);
    return DDPM_OK;
}

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
