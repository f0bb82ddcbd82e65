/* timing.h - how long work takes: moments in it, what is said of many of them, and what could be best. */
#ifndef DDPM_TIMING_H
#define DDPM_TIMING_H
#include "backend/backend.h"
#include "io/json_out.h"

typedef struct timing {
    int n;
    double median, p10, p90, min, max; /* ms; all 0 where n is 0 */
} timing;

/* Of n values; sorts them.  A quantile between two values is taken on the line between them. */
timing timing_of(double *ms, int n);
/* An object "key": {"median", "p10", "p90", "min", "max", "n"}; the unit stands in the key. */
void timing_put(json_out *j, const char *key, const timing *t);

/* A point in the work of a backend: an event of a device, or the clock where run() returns with the work done. */
typedef struct stamp {
    void *event;
    double seconds;
} stamp;
DDPM_MUST_CHECK ddpm_status stamps_create(stamp **out, int n, err *e);
void stamps_destroy(backend *be, stamp *stamps, int n); /* takes NULL */
DDPM_MUST_CHECK ddpm_status stamp_set(backend *be, stamp *s, err *e);
DDPM_MUST_CHECK ddpm_status stamp_ms(backend *be, const stamp *from, const stamp *to, double *ms,
                                     err *e);                  /* waits for `to` */
DDPM_MUST_CHECK ddpm_status backend_wait(backend *be, err *e); /* until all work given is done */

/* What a machine can do at most. */
typedef struct machine_peak {
    double tflop_per_s, gb_per_s; /* 1e12 operations, 1e9 bytes read and written */
    int product_side;             /* of the square matrices whose product was fastest */
    double copy_bytes;            /* read and written by the pass that told gb_per_s */
} machine_peak;

/* The roofline (Williams, Waterman & Patterson 2009): the shortest time in ms for so many operations and bytes. */
double roofline_ms(double flops, double bytes, const machine_peak *peak);

#endif
