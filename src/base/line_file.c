#include "base/line_file.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

ddpm_status line_file_open(line_file *f, const char *path, err *e)
{
    struct stat info;
    char last = '\n';
    *f = LINE_FILE_NONE;
    const int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
    if (fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open", path);
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        close(fd);
        return err_set(e, DDPM_EIO, "%s: not a regular file", path);
    }
    f->fd = fd;
    f->torn = info.st_size > 0 && (pread(fd, &last, 1, info.st_size - 1) != 1 || last != '\n');
    return DDPM_OK;
}

void line_file_close(line_file *f)
{
    if (f->fd >= 0) close(f->fd);
    *f = LINE_FILE_NONE;
}

bool line_file_append(line_file *f, const char *text, size_t n)
{
    struct stat before;
    if (f->fd < 0 || fstat(f->fd, &before)) return false;
    if ((!f->torn || file_write_fd(f->fd, "\n", 1)) && file_write_fd(f->fd, text, n)) {
        f->torn = false;
        return true;
    }
    if (ftruncate(f->fd, before.st_size)) f->torn = true;
    return false;
}
