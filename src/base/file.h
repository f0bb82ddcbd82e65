/* file.h - whole files in and out, durable where it says so. */
#ifndef DDPM_FILE_H
#define DDPM_FILE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

enum { PATH_CAP = 4096 }; /* bytes of any path buffer, with the final 0 */

/* dir + "/" + name into out[PATH_CAP]; DDPM_EINVAL when it does not fit. */
DDPM_MUST_CHECK ddpm_status path_join(char *out, const char *dir, const char *name, err *e);

/* The whole regular file as bytes plus a final 0 that *size does not count; free with mem_free().
 * DDPM_ENOINPUT: missing or unreadable (says which).  DDPM_EDATA: larger than max_bytes, or not a
 * regular file.  DDPM_EIO: a read failed. */
DDPM_MUST_CHECK ddpm_status file_read(const char *path, size_t max_bytes, char **bytes, size_t *size, err *e);

/* Write bytes to path; with `durable` the data is fsynced.  Links are followed and stay.
 *   a regular file, or none    is complete, or removed
 *   a device, FIFO or socket   is written into, and neither replaced nor removed; a FIFO that nobody reads is refused
 * DDPM_EIO names the path and the system's reason. */
DDPM_MUST_CHECK ddpm_status file_write(const char *path, const void *bytes, size_t size, bool durable, err *e);

/* As file_write() with `durable`, through a temporary file in the same folder and a rename: readers see the old file
 * or the new one, also after a power loss, and any number of processes may do so at once. */
DDPM_MUST_CHECK ddpm_status file_replace(const char *path, const void *bytes, size_t size, err *e);
/* The same without fsync, for what is cheap to make again: after a power loss the file may be empty or cut short. */
DDPM_MUST_CHECK ddpm_status file_replace_lazily(const char *path, const void *bytes, size_t size, err *e);

/* All of the bytes to a descriptor; false, and errno, where a write failed. */
bool file_write_fd(int fd, const void *bytes, size_t size);

/* Could file_replace() write there now, as far as that can be known without doing it?  DDPM_EIO: no, and why. */
DDPM_MUST_CHECK ddpm_status file_writable(const char *path, err *e);

/* Is a file of this name, without its folder, a temporary one of the two above? */
bool file_is_temporary(const char *name);
/* Remove such files from a folder whose process is gone, and that are older than an hour. */
void dir_sweep_temporaries(const char *path);

enum { FILE_TEMPORARY = 40 }; /* bytes that a temporary file adds to its folder's path, at most */

/* mkdir -p.  An existing folder is fine, an existing file is DDPM_EIO. */
DDPM_MUST_CHECK ddpm_status dir_make(const char *path, err *e);
/* Could dir_make() make it and file_replace() write into it, as far as that can be known without doing it?  DDPM_EIO:
 * no, and why. */
DDPM_MUST_CHECK ddpm_status dir_writable(const char *path, err *e);
DDPM_MUST_CHECK ddpm_status dir_sync(const char *path, err *e); /* fsync the folder itself */
/* All that was written to the file system the folder is on is on the disk when this returns. */
DDPM_MUST_CHECK ddpm_status dir_sync_all(const char *path, err *e);
/* rm -r, never following a symbolic link; a missing path is fine. */
DDPM_MUST_CHECK ddpm_status dir_remove(const char *path, err *e);

bool path_exists(const char *path);           /* anything there, even a broken link */
bool path_is_dir(const char *path);           /* follows links */
bool path_same(const char *a, const char *b); /* both are there, and lead to the same file or folder */

#endif
