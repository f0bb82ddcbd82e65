/* mb_trace.h - what the device did and when, kernel by kernel, also within a graph (CUPTI). */
#ifndef DDPM_MB_TRACE_H
#define DDPM_MB_TRACE_H
#include "base/err.h"
#include <stdint.h>

typedef struct trace_record {
    uint64_t begin, end; /* ns, by the device's clock */
    const char *name;    /* of the kernel, mangled; "copy" */
} trace_record;

typedef struct trace {
    trace_record *record;
    int n, capacity;
    uint64_t dropped;
} trace;

/* Record from now on.  DDPM_EDEVICE: there is no CUPTI to ask, or it refuses. */
DDPM_MUST_CHECK ddpm_status trace_begin(err *e);
/* Everything since, in the order of its begin; the names live as long as the process. */
DDPM_MUST_CHECK ddpm_status trace_end(trace *out, err *e);
void trace_free(trace *t);

#endif
