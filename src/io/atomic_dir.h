/* atomic_dir.h - a folder that appears whole or not at all, whatever happens meanwhile.
 *
 *   begin    parent/.tmp-NAME-xxxxxx is made; write into t.path
 *   commit   every file and folder in it is fsynced, it is renamed to parent/NAME, parent is fsynced
 *   abort    it is removed
 *
 * A crash leaves at worst a .tmp-* folder, which nothing reads and atomic_dir_sweep() removes.  An
 * older parent/NAME is exchanged in one step (renameat2); where the file system cannot do that it is
 * first set aside as .old-NAME-xxxxxx, and the sweep puts it back if the crash came in between.
 * One writer per parent at a time: the caller holds the run's lock. */
#ifndef DDPM_ATOMIC_DIR_H
#define DDPM_ATOMIC_DIR_H
#include "base/file.h"
#include "base/notes.h"

enum { ATOMIC_NAME_CAP = 128 };

typedef struct atomic_dir {
    char parent[PATH_CAP], name[ATOMIC_NAME_CAP];
    char path[PATH_CAP]; /* where to write; "" when nothing is under way */
} atomic_dir;

/* `parent` is made where it is missing.  `name` is one path component that does not begin with '.'. */
DDPM_MUST_CHECK ddpm_status atomic_dir_begin(atomic_dir *t, const char *parent, const char *name, err *e);

/* On failure all is as before the begin: the temporary folder is removed, an older parent/NAME is
 * still there.  Ends the transaction either way. */
DDPM_MUST_CHECK ddpm_status atomic_dir_commit(atomic_dir *t, err *e);

/* Remove what was written.  Nothing to do after a commit, or when zeroed. */
void atomic_dir_abort(atomic_dir *t);

/* Clean up after a crash: remove .tmp-NAME-xxxxxx, put a set-aside folder back or remove it.  What cannot be cleaned
 * up is in the notes and stays: it is in nobody's way.  A missing parent is fine. */
void atomic_dir_sweep(const char *parent, notes *left);

/* rm -r parent/name that never leaves half a folder under its name: it is renamed to .tmp-* first. */
DDPM_MUST_CHECK ddpm_status atomic_dir_delete(const char *parent, const char *name, err *e);

#endif
