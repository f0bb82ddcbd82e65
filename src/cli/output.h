/* output.h - checks of the output file or folder of a command, before the work begins. */
#ifndef DDPM_OUTPUT_H
#define DDPM_OUTPUT_H
#include "base/file.h"
#include "model/model.h"

/* Was the existing file written by this command? */
typedef bool output_is_ours(const char *path);

/* Check that the file may be written: unless `overwrite` is set, an existing regular file must be empty or `ours`.
 * `option` is the option's name for messages: "out".  DDPM_EINVAL: a foreign file; DDPM_EIO: it cannot be written. */
DDPM_MUST_CHECK ddpm_status output_check(const char *path, const char *option, output_is_ours *ours, bool overwrite,
                                         err *e);

/* Does the file begin as the JSON results of a command do, an object with this key first? */
bool output_is_json_of(const char *path, const char *first_key);

/* Is the path that of standard output?  If so, nothing else may be printed there. */
bool output_is_stdout(const char *path);

/* Check that a pipeline may be written to the folder: it must be missing or empty, or with `overwrite` contain a
 * pipeline or checkpoint and nothing else, which sets *replace.  Errors as of output_check(). */
DDPM_MUST_CHECK ddpm_status output_check_pipeline(const char *path, const char *option, bool overwrite, bool *replace,
                                                  err *e);
/* Write the model with its weights (ARENA_PARAM) as that pipeline; an existing one is replaced once it is complete. */
DDPM_MUST_CHECK ddpm_status output_save_pipeline(const model *m, const char *dir, bool replace, err *e);
#endif
