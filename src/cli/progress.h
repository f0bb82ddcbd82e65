/* progress.h - the progress line of a long run.
 *
 *   step 12000/500000  2.4%  loss 0.0312  grad 0.41  lr 2.0e-04  1834 img/s  14.3 it/s  mem 11.2/80.0 GiB  ETA 9:28:40
 *
 *   picture 12416/50000  24.8%  102 img/s  33.1 MiB written  0.3% waiting for the disk  ETA 6:08   (ddpm sample)
 *
 * On a terminal the line is redrawn in place, at most four times a second; otherwise a new line is printed
 * at a fixed interval.  No colours or escape sequences are used.  If the reader closes the pipe
 * (`ddpm train | head`), the output stops and the run continues. */
#ifndef DDPM_PROGRESS_H
#define DDPM_PROGRESS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* The contents of the line.  A negative number is unknown or not applicable, and is omitted. */
typedef struct progress_line {
    const char *noun; /* "step" */
    int64_t done, total;
    double loss, grad_norm, lr;
    double images_per_second, steps_per_second;
    double memory_used, memory_total;   /* bytes */
    double bytes_written, share_waited; /* share of the time that was spent waiting for the disk */
    double seconds_left;
} progress_line;

extern const progress_line progress_unknown; /* "step", 0 of 0, nothing known */

enum { PROGRESS_LINE = 256 }; /* bytes of the longest line, with the final 0 */

void progress_format(char *out, const progress_line *line); /* out[PROGRESS_LINE] */

/* "0:42", "18:54:10", "3d 04:12:09"; "-" for a negative or non-finite number, or more than 999 days. */
void progress_duration(char *out, size_t cap, double seconds);

/* Steps per second over about the last half minute: steps and seconds are both summed with weights that
 * decay as exp(-t / 30 s), so that their quotient has no bias towards the start.  The first three steps
 * are not counted, as autotuning and cold caches slow them down. */
typedef struct progress_rate {
    int64_t first, last_step;
    double last_time, steps, seconds;
    bool warm;
} progress_rate;

void progress_rate_begin(progress_rate *r, int64_t done);
void progress_rate_add(progress_rate *r, double now, int64_t done);
double progress_rate_get(const progress_rate *r); /* -1 as long as it is unknown */

typedef struct progress {
    FILE *out; /* borrowed; NULL = silent */
    bool terminal;
    double interval; /* seconds between two lines */
    double begun;    /* time of progress_begin() */
    double last;     /* time of the last line */
    int width;       /* characters of the last line that are still on the terminal's current line */
    int images_per_step;
    progress_rate rate;
} progress;

/* Begin at step `done`.  `seconds` is the interval if `out` is not a terminal; times are clock_seconds().
 * images_per_step 0: no img/s. */
void progress_begin(progress *p, FILE *out, double seconds, int images_per_step, double now, int64_t done);

/* Record that `done` steps are finished; returns true if a line is due, so that the loss is fetched only then. */
bool progress_step(progress *p, double now, int64_t done);

/* Print the line, after filling in rates and remaining time unless images_per_second is known. */
void progress_show(progress *p, double now, progress_line line);

/* Print a message on a separate line. */
void progress_note(progress *p, const char *text);

/* End the output, leaving the last line on the terminal. */
void progress_end(progress *p);

#endif
