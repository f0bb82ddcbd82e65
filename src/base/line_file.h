/* line_file.h - a file that grows by whole lines, whatever becomes of a write. */
#ifndef DDPM_LINE_FILE_H
#define DDPM_LINE_FILE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct line_file {
    int fd;    /* -1: none */
    bool torn; /* the file may end within a line */
} line_file;

#define LINE_FILE_NONE ((line_file){.fd = -1})

/* Open for reading and appending, made where it is missing.
 * DDPM_EIO: it cannot be opened, is a symbolic link, or no regular file (a FIFO, a device). */
DDPM_MUST_CHECK ddpm_status line_file_open(line_file *f, const char *path, err *e);
void line_file_close(line_file *f); /* takes LINE_FILE_NONE */

/* Append text[n], which ends in a newline.  False: it could not be written whole, and the file is as it was before or,
 * where it cannot be cut back either, ends within a line; the next one then begins on a line of its own. */
bool line_file_append(line_file *f, const char *text, size_t n);

#endif
