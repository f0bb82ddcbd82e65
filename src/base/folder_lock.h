/* folder_lock.h - one writer a folder.
 *
 * Two locks are taken, and one is enough to keep a second writer out: flock(2) on the folder itself, which no removed
 * file undoes, and an open-file-description lock on folder/LOCK, which network file systems know across machines.
 * Both end with the process, however it ends.  LOCK also names the holder; where a file system has no locks at all, a
 * process of this machine that is named there and still alive keeps others out. */
#ifndef DDPM_FOLDER_LOCK_H
#define DDPM_FOLDER_LOCK_H
#include "base/err.h"
#include <stdbool.h>

#define FOLDER_LOCK_FILE "LOCK"

typedef struct folder_lock {
    int folder, file; /* descriptors; -1: none */
} folder_lock;

#define FOLDER_LOCK_NONE ((folder_lock){-1, -1})

/* Take the lock of a folder that exists.  `what` is who else may be at work there: "training".
 * DDPM_ELOCKED names the process that has it; DDPM_EIO: folder or LOCK cannot be opened. */
DDPM_MUST_CHECK ddpm_status folder_lock_take(folder_lock *l, const char *folder, const char *what, err *e);
/* May folder/LOCK be emptied and written?  False: it is somebody's file of that name. */
bool folder_lock_is_ours(const char *folder);
void folder_lock_release(folder_lock *l); /* takes FOLDER_LOCK_NONE, and a failed one */

#endif
