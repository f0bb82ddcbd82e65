/* data_files.h - temporary folders and files for the tests of src/data. */
#ifndef DDPM_DATA_FILES_H
#define DDPM_DATA_FILES_H
#include "base/file.h"
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#define FIXTURE(name) DDPM_TESTS "/data/fixtures/" name

/* A new folder below /tmp; drop_folder() removes it. */
static inline const char *new_folder(char path[PATH_CAP])
{
    strcpy(path, "/tmp/ddpm-test-XXXXXX");
    cr_assert_not_null(mkdtemp(path));
    return path;
}

static inline void drop_folder(const char *path) { cr_assert_eq(dir_remove(path, NULL), DDPM_OK); }

/* dir/name, made with the folders on the way; the text is the caller's. */
static inline const char *new_file(char out[PATH_CAP], const char *dir, const char *name, const void *bytes,
                                   size_t size)
{
    char parent[PATH_CAP];
    err e = {0};
    cr_assert_eq(path_join(out, dir, name, &e), DDPM_OK, "%s", e.text);
    strcpy(parent, out);
    *strrchr(parent, '/') = '\0';
    cr_assert_eq(dir_make(parent, &e), DDPM_OK, "%s", e.text);
    cr_assert_eq(file_write(out, bytes, size, false, &e), DDPM_OK, "%s", e.text);
    return out;
}

/* A copy of a file as dir/name. */
static inline void copy_file(const char *from, const char *dir, const char *name)
{
    char path[PATH_CAP], *bytes;
    size_t size;
    err e = {0};
    cr_assert_eq(file_read(from, (size_t)1 << 20, &bytes, &size, &e), DDPM_OK, "%s", e.text);
    new_file(path, dir, name, bytes, size);
    free(bytes);
}

/* The most memory that this process ever had. */
static inline long peak_mib(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_maxrss >> 10;
}

#endif
