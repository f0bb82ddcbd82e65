/* run_metrics.h - metrics.jsonl, a line of JSON every so many steps, and the plot that is drawn from it. */
#ifndef DDPM_RUN_METRICS_H
#define DDPM_RUN_METRICS_H
#include "base/file.h"
#include "base/line_file.h"
#include "train_state.h"

typedef struct run_metrics {
    const train_state *state;
    double images_per_second, data_seconds; /* rate; time waited for images since the last line */
} run_metrics;

/* Append one line; false where it could not be written: a full disk must not end the training. */
bool run_metrics_append(line_file *f, const run_metrics *m);

/* What a run that goes on from a step finds there. */
typedef struct run_metrics_past {
    char *kept; /* the lines up to the step, in their order; free with mem_free() */
    size_t kept_bytes, bytes;
    int64_t later, unreadable; /* lines that are left out of `kept`; the end of a line cut short counts as neither */
} run_metrics_past;

/* Read the file `path`.  A line that is not JSON with a step costs that line alone. */
DDPM_MUST_CHECK ddpm_status run_metrics_read(const char *path, uint64_t step, run_metrics_past *past, err *e);

/* Draw the losses of the file `metrics` into the SVG file `plot`. */
DDPM_MUST_CHECK ddpm_status run_metrics_plot(const char *metrics, const char *plot, err *e);

#endif
