/* run_folder.h - the folder of a run: who holds it, and what is written down while it goes on.
 *
 *   config.yaml  log.txt  metrics.jsonl  loss.svg  noising.png  ckpt/  samples/  LOCK
 */
#ifndef DDPM_RUN_FOLDER_H
#define DDPM_RUN_FOLDER_H
#include "core/file.h"
#include "core/folder_lock.h"
#include "train_state.h"
#include <stdint.h>

typedef struct run_folder {
    char path[PATH_CAP];
    folder_lock lock;
    int log, metrics;
    bool metrics_failed; /* a full disk must not end the training; it is said once */
} run_folder;

#define RUN_FOLDER_NONE ((run_folder){.lock = {-1, -1}, .log = -1, .metrics = -1})

/* Make the folder where it is missing and take its lock.  DDPM_ELOCKED names the process that has it. */
DDPM_MUST_CHECK ddpm_status run_folder_open(run_folder *r, const char *path, err *e);
void run_folder_close(run_folder *r); /* takes RUN_FOLDER_NONE, and a failed one */

/* path/name into out[PATH_CAP]. */
DDPM_MUST_CHECK ddpm_status run_folder_file(const run_folder *r, const char *name, char *out, err *e);

/* Drop the lines of metrics.jsonl that lie after `step`: a resumed run writes them again. */
DDPM_MUST_CHECK ddpm_status run_folder_rewind(run_folder *r, uint64_t step, err *e);

/* Append a line with the time to log.txt.  Never fails: a log is not worth a run. */
void run_folder_log(run_folder *r, const char *text);

typedef struct run_metrics {
    const train_state *state;
    double images_per_second, data_seconds; /* rate; time waited for images since the last line */
} run_metrics;
/* Append one line to metrics.jsonl; false once it could not be written. */
bool run_folder_metrics(run_folder *r, const run_metrics *m);

/* Draw loss.svg from metrics.jsonl. */
DDPM_MUST_CHECK ddpm_status run_folder_plot(const run_folder *r, err *e);

#endif
