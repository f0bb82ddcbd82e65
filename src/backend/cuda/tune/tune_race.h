/* tune_race.h - which algo of a primitive is the fastest: all are run, on made-up operands. */
#ifndef DDPM_TUNE_RACE_H
#define DDPM_TUNE_RACE_H
#include "backend/cuda/lib/cuda_rt.h"
#include "backend/cuda/lib/primitive.h"

typedef struct race_spec {
    void *stream;
    size_t l2;            /* bytes of second-level cache */
    size_t workspace_cap; /* an algo that wants more bytes is out */
    bool eager;           /* time launches one by one, not from a graph */
} race_spec;

/* *algo is the fastest one, *us the microseconds of a run: the median of some.  An algo that fails is out;
 * DDPM_EBACKEND, with the reason of the last, where all do.  *us < 0 and *algo = 0: there is no memory
 * to run them in. */
DDPM_MUST_CHECK ddpm_status tune_race(const race_spec *spec, primitive *p, int *algo, float *us, err *e);

#endif
