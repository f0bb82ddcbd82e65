#include "data/file_list.h"

#include "base/file.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

ddpm_status file_list_add(file_list *l, const char *path, err *e)
{
    TRY(mem_grow(&l->path, &l->capacity, l->n + 1, sizeof *l->path, "list of files", e));
    TRY(mem_text(&l->path[l->n], path, e));
    l->n++;
    return DDPM_OK;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

void file_list_sort(file_list *l)
{
    if (l->n > 1) qsort(l->path, (size_t)l->n, sizeof *l->path, by_bytes);
}

void file_list_cut(file_list *l, int n)
{
    while (l->n > n) free(l->path[--l->n]);
}

void file_list_free(file_list *l)
{
    for (int i = 0; i < l->n; i++) free(l->path[i]);
    free(l->path);
    *l = (file_list){0};
}

ddpm_status file_list_match(file_list *l, const char *dir, const char *pattern, err *e)
{
    ddpm_status st = DDPM_OK;
    DIR *d = opendir(dir);
    if (!d) return err_errno(e, DDPM_ENOINPUT, errno, "%s: cannot open the folder", dir);
    for (const struct dirent *entry = readdir(d); entry; entry = readdir(d)) {
        char path[PATH_CAP];
        if (fnmatch(pattern, entry->d_name, FNM_PERIOD)) continue;
        TRY_GOTO(path_join(path, dir, entry->d_name, e));
        TRY_GOTO(file_list_add(l, path, e));
    }
    file_list_sort(l);
done:
    closedir(d);
    return st;
}

size_t file_head(const char *path, void *to, size_t n)
{
    struct stat info;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* never blocks on a FIFO */
    if (fd < 0) return 0;
    const ssize_t got = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) ? read(fd, to, n) : 0;
    close(fd);
    return got > 0 ? (size_t)got : 0;
}
