/* run_folder.h - the run folder: ownership check, lock, log and metrics files.
 *
 *   config.yaml  log.txt  metrics.jsonl  skipped.jsonl  loss.svg  noising.png  autotune.txt  ckpt/  samples/  ema/  LOCK
 *   ckpt/superseded_001/   later checkpoints and metrics, moved here when the run went back to an earlier step
 */
#ifndef DDPM_RUN_FOLDER_H
#define DDPM_RUN_FOLDER_H
#include "config/config.h"
#include "base/folder_lock.h"
#include "base/line_file.h"
#include "base/notes.h"
#include "train/run_metrics.h"

typedef struct run_folder {
    char path[PATH_CAP], ckpt[PATH_CAP];
    char superseded[PATH_CAP]; /* ckpt/superseded_NNN, created on first use; "" before */
    folder_lock lock;
    line_file log, metrics;
} run_folder;

#define RUN_FOLDER_NONE ((run_folder){.lock = FOLDER_LOCK_NONE, .log = {.fd = -1}, .metrics = {.fd = -1}})

/* Create the folder config->out if it is missing, and lock it.
 * DDPM_EINVAL: the folder holds files that are neither of a run nor one of the configuration files (the message names
 * one), or its path is too long for the files to be written.  DDPM_ELOCKED names the process that holds the lock.
 * DDPM_EIO: the folder cannot be written to. */
DDPM_MUST_CHECK ddpm_status run_folder_open(run_folder *r, const ddpm_config *config, err *e);
void run_folder_close(run_folder *r); /* accepts RUN_FOLDER_NONE, and a folder that could not be opened */

/* path/name into out[PATH_CAP]. */
DDPM_MUST_CHECK ddpm_status run_folder_file(const run_folder *r, const char *name, char *out, err *e);

/* Is path/name one of the files that the configuration was read from? */
bool run_folder_is_input(const run_folder *r, const ddpm_config *config, const char *name);

/* Move the checkpoint of a step to ckpt/superseded_NNN. */
DDPM_MUST_CHECK ddpm_status run_folder_supersede(run_folder *r, int64_t step, err *e);

/* Read the lines of metrics.jsonl up to `step`, for run_folder_rewind(); free past->kept.  The file is first copied to
 * ckpt/superseded_NNN, with a note, if the rewind would lose lines: unreadable ones, or ones after the step unless the
 * resumed run writes them `again`. */
DDPM_MUST_CHECK ddpm_status run_folder_past(run_folder *r, uint64_t step, bool again, run_metrics_past *past, notes *n,
                                            err *e);
/* Reduce metrics.jsonl to the lines in `past`. */
DDPM_MUST_CHECK ddpm_status run_folder_rewind(run_folder *r, const run_metrics_past *past, err *e);

/* Append a line with the time to log.txt.  Write errors are ignored: they must not end a run. */
void run_folder_log(run_folder *r, const char *text);

#endif
