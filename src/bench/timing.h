/* timing.h - timestamps of a backend's work, percentiles of timings, and the roofline. */
#ifndef DDPM_TIMING_H
#define DDPM_TIMING_H
#include "backend/backend.h"
#include "io/json_out.h"

typedef struct timing {
    int n;
    double median, p10, p90, min, max; /* ms; all 0 if n is 0 */
} timing;

/* Statistics of n values, which are sorted in place.  Percentiles are interpolated linearly. */
timing timing_of(double *ms, int n);
/* Write an object "key": {"median", "p10", "p90", "min", "max", "n"}; the key names the unit. */
void timing_put(json_out *j, const char *key, const timing *t);

/* A timestamp in the work of a backend: an event on a GPU, or the clock if run() returns with the work done. */
typedef struct stamp {
    void *event;
    double seconds;
} stamp;
DDPM_MUST_CHECK ddpm_status stamps_create(stamp **out, int n, err *e);
void stamps_destroy(backend *be, stamp *stamps, int n); /* accepts NULL */
DDPM_MUST_CHECK ddpm_status stamp_set(backend *be, stamp *s, err *e);
DDPM_MUST_CHECK ddpm_status stamp_ms(backend *be, const stamp *from, const stamp *to, double *ms,
                                     err *e);                  /* waits for `to` */
DDPM_MUST_CHECK ddpm_status backend_wait(backend *be, err *e); /* until all queued work is done */

/* The machine's measured peak rates. */
typedef struct machine_peak {
    double tflop_per_s, gb_per_s; /* 1e12 operations, 1e9 bytes read and written */
    int product_side;             /* side of the square matrices whose product was fastest */
    double copy_bytes;            /* bytes read and written by the pass that gb_per_s was measured with */
} machine_peak;

/* The roofline (Williams, Waterman & Patterson 2009): the shortest possible time in ms for `flops` operations and
 * `bytes` of memory traffic. */
double roofline_ms(double flops, double bytes, const machine_peak *peak);

#endif
