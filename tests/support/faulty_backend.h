/* faulty_backend.h - a backend with a step that yields NaN for chosen samples: a training that meets such samples. */
#ifndef DDPM_TESTS_FAULTY_BACKEND_H
#define DDPM_TESTS_FAULTY_BACKEND_H
#include "backend/backend.h"

typedef struct fault {
    const char *path; /* of the step: "down_blocks.1.resnets.0.conv1" */
    op_kind op;
    int out;              /* the result whose first value becomes NaN */
    uint64_t first, last; /* in micro-batches whose first sample is one of these */
} fault;

enum { FAULTS = 4 };
/* Replaces be->fn.  The array ends with a NULL path.  For one backend at a time. */
void faulty_wrap(backend *be, const fault *faults);

#endif
