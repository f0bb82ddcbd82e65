/* folder_lock.h - a lock that allows one writer per folder, or several that exclude each other from parts of it.
 *
 * Two locks are taken, either of which excludes a second writer: flock(2) on the folder itself, which removing a file
 * cannot undo, and an open-file-description lock on folder/LOCK, which network file systems honour across machines.
 * The kernel releases both when the process ends.  LOCK also names the holder; on a file system without any locks, the
 * folder counts as locked while the process named in LOCK is alive on this machine. */
#ifndef DDPM_FOLDER_LOCK_H
#define DDPM_FOLDER_LOCK_H
#include "base/err.h"
#include <stdbool.h>
#include <stdint.h>

#define FOLDER_LOCK_FILE "LOCK"

typedef struct folder_lock {
    int folder, file; /* descriptors; -1: none */
    bool alone;       /* no other process can hold a lock of this folder */
    bool named;       /* LOCK named this process; of several writers, it may name another one now */
} folder_lock;

#define FOLDER_LOCK_NONE ((folder_lock){-1, -1, false, false})

/* Lock an existing folder.  `what` names the activity of a possible other holder in messages: "training".
 * DDPM_ELOCKED names the process that holds the lock; DDPM_EIO: folder or LOCK cannot be opened. */
DDPM_MUST_CHECK ddpm_status folder_lock_take(folder_lock *l, const char *folder, const char *what, err *e);
/* May folder/LOCK be overwritten?  False: it is a foreign file that happens to have that name. */
bool folder_lock_is_ours(const char *folder);
/* Several processes that share the folder, and exclude each other from its parts: joining excludes only the holder of
 * the whole folder.  A part is a number in [0, FOLDER_LOCK_PARTS), locked as a byte of LOCK.  On a file system without
 * such locks only one process can join; its parts are free. */
DDPM_MUST_CHECK ddpm_status folder_lock_join(folder_lock *l, const char *folder, const char *what, err *e);
#define FOLDER_LOCK_PARTS ((int64_t)1 << 61)
/* Lock `count` parts from `first` on, shared with other readers or for this process alone; a lock that this process
 * holds is replaced.  DDPM_ELOCKED, without a message: another process has one of them; DDPM_EIO. */
DDPM_MUST_CHECK ddpm_status folder_lock_part(const folder_lock *l, int64_t first, int64_t count, bool shared, err *e);
void folder_lock_leave(const folder_lock *l, int64_t first, int64_t count);
/* Does another process hold one of these parts?  Nothing is locked. */
bool folder_lock_is_held(const folder_lock *l, int64_t first, int64_t count);
/* The holder named in LOCK, "" if none is; of several writers the one that began last. */
enum { FOLDER_LOCK_HOLDER = 160 };
void folder_lock_holder(const folder_lock *l, char holder[FOLDER_LOCK_HOLDER]);
void folder_lock_name(folder_lock *l);    /* name this process in LOCK */
void folder_lock_release(folder_lock *l); /* accepts FOLDER_LOCK_NONE, and a lock that could not be taken */

#endif
