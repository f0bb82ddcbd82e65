/* progress.h - how far a long run is, on one line.
 *
 *   step 12000/500000  2.4%  loss 0.0312  grad 0.41  lr 2.0e-04  1834 img/s  14.3 it/s  mem 11.2/80.0 GiB  ETA 9:28:40
 *
 * On a terminal the line is redrawn in place, at most four times a second; anywhere else it is printed
 * anew every so many seconds.  No colours and no escape sequences, ever; when the reader goes away
 * (`ddpm train | head`) the progress falls silent and the run goes on. */
#ifndef DDPM_PROGRESS_H
#define DDPM_PROGRESS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* What the line says.  A negative number is not known, or does not apply, and is left out. */
typedef struct progress_line {
    const char *noun; /* "step" */
    int64_t done, total;
    double loss, grad_norm, lr;
    double images_per_second, steps_per_second;
    double memory_used, memory_total; /* bytes */
    double seconds_left;
} progress_line;

extern const progress_line progress_unknown; /* "step", 0 of 0, nothing known */

enum { PROGRESS_LINE = 256 }; /* bytes that hold any line, with the final 0 */

void progress_format(char *out, const progress_line *line); /* out[PROGRESS_LINE] */

/* "0:42", "18:54:10", "3d 04:12:09"; "-" for what is negative, not finite or over 999 days. */
void progress_duration(char *out, size_t cap, double seconds);

/* Steps a second over about the last half minute: both steps and seconds are summed with weights that
 * decay by exp(-t / 30 s), so that their quotient has no bias towards the start.  The first three steps,
 * which choose algorithms and fill caches, are not counted. */
typedef struct progress_rate {
    int64_t first, last_step;
    double last_time, steps, seconds;
    bool warm;
} progress_rate;

void progress_rate_begin(progress_rate *r, int64_t done);
void progress_rate_add(progress_rate *r, double now, int64_t done);
double progress_rate_get(const progress_rate *r); /* -1 while it is not known */

typedef struct progress {
    FILE *out; /* borrowed; NULL = silent */
    bool terminal;
    double interval; /* seconds between two lines */
    double last;     /* when the last one was shown */
    int width;       /* characters of it that are still on the terminal's current line */
    int images_per_step;
    progress_rate rate;
} progress;

/* Begin at step `done`.  `seconds` is the interval where `out` is no terminal; times are clock_seconds().
 * images_per_step 0: no img/s. */
void progress_begin(progress *p, FILE *out, double seconds, int images_per_step, double now, int64_t done);

/* Note that `done` steps are finished; true when a line is due, so that only then the loss need be fetched. */
bool progress_step(progress *p, double now, int64_t done);

/* Show a line, with rates and the time left filled in. */
void progress_show(progress *p, double now, progress_line line);

/* Print a message on a line of its own. */
void progress_note(progress *p, const char *text);

/* Leave the last line standing. */
void progress_end(progress *p);

#endif
