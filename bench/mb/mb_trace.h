/* mb_trace.h - a timeline of the device's kernels and copies, also inside graphs (CUPTI). */
#ifndef DDPM_MB_TRACE_H
#define DDPM_MB_TRACE_H
#include "base/err.h"
#include <stdint.h>

typedef struct trace_record {
    uint64_t begin, end; /* ns, of the device's clock */
    const char *name;    /* mangled name of the kernel, or "copy" */
} trace_record;

typedef struct trace {
    trace_record *record;
    int n, capacity;
    uint64_t dropped;
} trace;

/* Starts recording.  DDPM_EDEVICE: CUPTI is not available or returns an error. */
DDPM_MUST_CHECK ddpm_status trace_begin(err *e);
/* Stops recording; the records since trace_begin(), ordered by begin.  The names stay valid until the process ends. */
DDPM_MUST_CHECK ddpm_status trace_end(trace *out, err *e);
void trace_free(trace *t);

#endif
