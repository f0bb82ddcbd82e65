/* run_metrics.h - metrics.jsonl, with a line of JSON every log.every steps, and its loss plot. */
#ifndef DDPM_RUN_METRICS_H
#define DDPM_RUN_METRICS_H
#include "base/file.h"
#include "base/line_file.h"
#include "train_state.h"

typedef struct run_metrics {
    const train_state *state;
    double images_per_second, data_seconds; /* throughput; seconds waited for images since the last line */
} run_metrics;

/* Append one line: step, kimg, lr, grad_norm and skipped of the last step; means over the steps since the last line:
 * loss (weighted, of the steps that were not skipped), mse (mean squared error of the prediction without weight, over the
 * images), mse_by_level (the same for TRAIN_LEVELS ranges of noise levels, least noise first; null: no image) and, with a
 * learned variance, vb (mean variational bound of the drawn reverse steps, in bits per dimension).
 * False if it could not be written (no error: a full disk must not end the training). */
bool run_metrics_append(line_file *f, const run_metrics *m);

/* Begin the next interval: zero the sums that run_metrics_append() reads. */
void run_metrics_begin(train_state *s);

/* The contents of metrics.jsonl for a run that is resumed from a step. */
typedef struct run_metrics_past {
    char *kept; /* the lines up to the step, in their order; free with mem_free() */
    size_t kept_bytes, bytes;
    int64_t later, unreadable; /* lines that are not in `kept`; an incomplete last line counts as neither */
} run_metrics_past;

/* Read the file `path`.  A line that is not JSON with a step is counted as unreadable; reading continues after it. */
DDPM_MUST_CHECK ddpm_status run_metrics_read(const char *path, uint64_t step, run_metrics_past *past, err *e);

/* Plot the losses of the file `metrics` into the SVG file `plot`. */
DDPM_MUST_CHECK ddpm_status run_metrics_plot(const char *metrics, const char *plot, err *e);

#endif
