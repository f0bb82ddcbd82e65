/* output.h - a file or folder that a command writes where its user says: looked at before the work is done. */
#ifndef DDPM_OUTPUT_H
#define DDPM_OUTPUT_H
#include "base/file.h"

/* Was the file that is there written by this command? */
typedef bool output_is_ours(const char *path);

/* May the file be written?  What is there must be empty, `ours`, or no regular file, unless it may be overwritten.
 * `option` is what messages call it: "out".  DDPM_EINVAL: it is somebody else's; DDPM_EIO: it cannot be written. */
DDPM_MUST_CHECK ddpm_status output_check(const char *path, const char *option, output_is_ours *ours, bool overwrite,
                                         err *e);

/* Does the path lead to the standard output?  Then nothing else may be said there. */
bool output_is_stdout(const char *path);

/* May a pipeline be written into the folder?  It must be missing or empty; with `overwrite` it may also hold a pipeline or
 * checkpoint, and nothing beside.  *replace: it does.  Statuses as above. */
DDPM_MUST_CHECK ddpm_status output_check_pipeline(const char *path, const char *option, bool overwrite, bool *replace,
                                                  err *e);
#endif
