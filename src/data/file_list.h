/* file_list.h - lists of file names, sorted bytewise in every locale. */
#ifndef DDPM_FILE_LIST_H
#define DDPM_FILE_LIST_H
#include "base/err.h"
#include <stddef.h>

typedef struct file_list {
    char **path; /* [n], owned */
    int n, capacity;
} file_list;

DDPM_MUST_CHECK ddpm_status file_list_add(file_list *l, const char *path, err *e);
void file_list_sort(file_list *l);
void file_list_cut(file_list *l, int n); /* keep the first n */
void file_list_free(file_list *l);       /* accepts a zeroed list; leaves it zeroed */

/* Add the entries of one folder whose names match the shell pattern, sorted, as dir/name. */
DDPM_MUST_CHECK ddpm_status file_list_match(file_list *l, const char *dir, const char *pattern, err *e);

/* Read at most n first bytes of a regular file; returns their number, 0 also if the file cannot be read. */
size_t file_head(const char *path, void *to, size_t n);

#endif
