/* run_folder.h - the folder of a run: whose it is, who holds it, and what is written down while it goes on.
 *
 *   config.yaml  log.txt  metrics.jsonl  loss.svg  noising.png  autotune.txt  ckpt/  samples/  LOCK
 *   ckpt/aside_001/   what a run left there that went on from an earlier step: later checkpoints and metrics
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
    char aside[PATH_CAP]; /* made when the first thing goes there; "" before */
    folder_lock lock;
    line_file log, metrics;
} run_folder;

#define RUN_FOLDER_NONE ((run_folder){.lock = {-1, -1}, .log = {.fd = -1}, .metrics = {.fd = -1}})

/* Make the folder config->out where it is missing, and take its lock.
 * DDPM_EINVAL: it holds something that is no run's and was not read as a configuration either (says what), or its
 * path is too long for what will be written there.  DDPM_ELOCKED names the process that has it.  DDPM_EIO: it cannot be
 * written to. */
DDPM_MUST_CHECK ddpm_status run_folder_open(run_folder *r, const ddpm_config *config, err *e);
void run_folder_close(run_folder *r); /* takes RUN_FOLDER_NONE, and a failed one */

/* path/name into out[PATH_CAP]. */
DDPM_MUST_CHECK ddpm_status run_folder_file(const run_folder *r, const char *name, char *out, err *e);

/* Is path/name one of the files that the configuration was read from? */
bool run_folder_is_input(const run_folder *r, const ddpm_config *config, const char *name);

/* Move the checkpoint of a step to ckpt/aside_NNN. */
DDPM_MUST_CHECK ddpm_status run_folder_set_aside(run_folder *r, int64_t step, err *e);

/* What metrics.jsonl holds up to `step`, for run_folder_rewind(); free past->kept.  The file is copied to ckpt/aside_NNN
 * where that would lose something: lines that cannot be read, and, unless the run that follows writes them `again`,
 * those after the step.  The notes say so. */
DDPM_MUST_CHECK ddpm_status run_folder_past(run_folder *r, uint64_t step, bool again, run_metrics_past *past, notes *n,
                                            err *e);
/* Leave nothing else in metrics.jsonl. */
DDPM_MUST_CHECK ddpm_status run_folder_rewind(run_folder *r, const run_metrics_past *past, err *e);

/* Append a line with the time to log.txt.  Never fails: a log is not worth a run. */
void run_folder_log(run_folder *r, const char *text);

#endif
