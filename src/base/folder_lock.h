/* folder_lock.h - a lock that allows one writer per folder.
 *
 * Two locks are taken, either of which excludes a second writer: flock(2) on the folder itself, which removing a file
 * cannot undo, and an open-file-description lock on folder/LOCK, which network file systems honour across machines.
 * The kernel releases both when the process ends.  LOCK also names the holder; on a file system without any locks, the
 * folder counts as locked while the process named in LOCK is alive on this machine. */
#ifndef DDPM_FOLDER_LOCK_H
#define DDPM_FOLDER_LOCK_H
#include "base/err.h"
#include <stdbool.h>

#define FOLDER_LOCK_FILE "LOCK"

typedef struct folder_lock {
    int folder, file; /* descriptors; -1: none */
} folder_lock;

#define FOLDER_LOCK_NONE ((folder_lock){-1, -1})

/* Lock an existing folder.  `what` names the activity of a possible other holder in messages: "training".
 * DDPM_ELOCKED names the process that holds the lock; DDPM_EIO: folder or LOCK cannot be opened. */
DDPM_MUST_CHECK ddpm_status folder_lock_take(folder_lock *l, const char *folder, const char *what, err *e);
/* May folder/LOCK be overwritten?  False: it is a foreign file that happens to have that name. */
bool folder_lock_is_ours(const char *folder);
void folder_lock_release(folder_lock *l); /* accepts FOLDER_LOCK_NONE, and a lock that could not be taken */

#endif
