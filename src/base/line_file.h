/* line_file.h - a file to which whole lines are appended, also after a failed write. */
#ifndef DDPM_LINE_FILE_H
#define DDPM_LINE_FILE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct line_file {
    int fd;    /* -1: none */
    bool torn; /* the last line may be incomplete */
} line_file;

#define LINE_FILE_NONE ((line_file){.fd = -1})

/* Open for reading and appending; a missing file is created.
 * DDPM_EIO: the file cannot be opened, is a symbolic link, or not a regular file (a FIFO, a device). */
DDPM_MUST_CHECK ddpm_status line_file_open(line_file *f, const char *path, err *e);
void line_file_close(line_file *f); /* accepts LINE_FILE_NONE */

/* Append text[n], which ends in a newline.  False: the text could not be written completely.  The file is then
 * truncated to its old size; if that fails too, it ends in an incomplete line, and the next append begins a new one. */
bool line_file_append(line_file *f, const char *text, size_t n);

#endif
