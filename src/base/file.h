/* file.h - reading and writing whole files and folders, with fsync where stated. */
#ifndef DDPM_FILE_H
#define DDPM_FILE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

enum { PATH_CAP = 4096 }; /* bytes of any path buffer, with the final 0 */

/* dir + "/" + name into out[PATH_CAP]; DDPM_EINVAL if the path does not fit. */
DDPM_MUST_CHECK ddpm_status path_join(char *out, const char *dir, const char *name, err *e);

/* Read a whole regular file into *bytes, with a final 0 that *size does not count; free with mem_free().
 * DDPM_ENOINPUT: missing or unreadable (the message says which).  DDPM_EDATA: larger than max_bytes, or not a
 * regular file.  DDPM_EIO: a read failed. */
DDPM_MUST_CHECK ddpm_status file_read(const char *path, size_t max_bytes, char **bytes, size_t *size, err *e);

/* Write bytes to path; with `durable` the data is fsynced.  Symbolic links are followed and kept.
 *   a regular or missing file  is complete on success and removed on failure
 *   a device, FIFO or socket   is written to, never replaced or removed; a FIFO without a reader is an error
 * DDPM_EIO names the path and the system's reason. */
DDPM_MUST_CHECK ddpm_status file_write(const char *path, const void *bytes, size_t size, bool durable, err *e);

/* As file_write() with `durable`, through a temporary file in the same folder and a rename: readers see the old file
 * or the new one, also after a power loss, and any number of processes may replace the file concurrently. */
DDPM_MUST_CHECK ddpm_status file_replace(const char *path, const void *bytes, size_t size, err *e);
/* As file_replace() without fsync, for contents that are cheap to regenerate: after a power loss the file may be empty
 * or truncated. */
DDPM_MUST_CHECK ddpm_status file_replace_lazily(const char *path, const void *bytes, size_t size, err *e);

/* Write all bytes to a descriptor; false, with errno set, if a write failed. */
bool file_write_fd(int fd, const void *bytes, size_t size);

/* Check, without writing, whether file_replace() could write `path` now.  DDPM_EIO: no, with the reason. */
DDPM_MUST_CHECK ddpm_status file_writable(const char *path, err *e);

/* Is this file name (without folder) that of a temporary file of file_replace() or file_replace_lazily()? */
bool file_is_temporary(const char *name);
/* Remove from a folder such temporary files that are older than an hour and whose process no longer exists. */
void dir_sweep_temporaries(const char *path);

enum { FILE_TEMPORARY = 40 }; /* bytes that a temporary file adds to its folder's path, at most */

/* mkdir -p.  An existing folder is fine, an existing file is DDPM_EIO. */
DDPM_MUST_CHECK ddpm_status dir_make(const char *path, err *e);
/* Check, without writing, whether dir_make() could make the folder and file_replace() write into it.  DDPM_EIO: no,
 * with the reason. */
DDPM_MUST_CHECK ddpm_status dir_writable(const char *path, err *e);
DDPM_MUST_CHECK ddpm_status dir_sync(const char *path, err *e); /* fsync the folder itself */
/* Flush the whole file system that contains the folder to disk (syncfs). */
DDPM_MUST_CHECK ddpm_status dir_sync_all(const char *path, err *e);
/* rm -r, never following a symbolic link; a missing path is fine. */
DDPM_MUST_CHECK ddpm_status dir_remove(const char *path, err *e);

bool path_exists(const char *path);           /* true also for a broken link */
bool path_is_dir(const char *path);           /* follows links */
bool path_same(const char *a, const char *b); /* both exist and are the same file or folder */

#endif
