/* atomic_dir.h - writing a folder as a transaction: it appears complete or not at all.
 *
 *   begin    creates parent/.tmp-NAME-xxxxxx; write into t.path
 *   commit   fsyncs every file and folder in it, renames it to parent/NAME, and fsyncs parent
 *   abort    removes it
 *
 * A crash leaves at worst a .tmp-* folder, which nothing reads and atomic_dir_sweep() removes.  An
 * existing parent/NAME is exchanged atomically (renameat2).  On a file system that does not support this, the old
 * folder is first renamed to .old-NAME-xxxxxx; after a crash between the two renames the sweep restores it.
 * One writer per parent at a time: the caller holds the run's lock. */
#ifndef DDPM_ATOMIC_DIR_H
#define DDPM_ATOMIC_DIR_H
#include "base/file.h"
#include "base/notes.h"

enum { ATOMIC_NAME_CAP = 128 };

typedef struct atomic_dir {
    char parent[PATH_CAP], name[ATOMIC_NAME_CAP];
    char path[PATH_CAP]; /* the temporary folder to write into; "" outside a transaction */
} atomic_dir;

/* A missing `parent` is created.  `name` is one path component that does not begin with '.'. */
DDPM_MUST_CHECK ddpm_status atomic_dir_begin(atomic_dir *t, const char *parent, const char *name, err *e);

/* On failure the state before atomic_dir_begin() is restored: the temporary folder is removed, an existing
 * parent/NAME is kept.  Ends the transaction in either case. */
DDPM_MUST_CHECK ddpm_status atomic_dir_commit(atomic_dir *t, err *e);

/* Remove the temporary folder.  No effect after a commit or on a zeroed struct. */
void atomic_dir_abort(atomic_dir *t);

/* Clean up after a crash: remove .tmp-NAME-xxxxxx; rename .old-NAME-xxxxxx back to NAME, or remove it if NAME exists.
 * Leftovers that cannot be removed are harmless; they stay and are noted.  A missing parent is fine. */
void atomic_dir_sweep(const char *parent, notes *left);

/* rm -r parent/name.  The folder is renamed to .tmp-* first, so that a crash never leaves a part of it as `name`. */
DDPM_MUST_CHECK ddpm_status atomic_dir_delete(const char *parent, const char *name, err *e);

#endif
