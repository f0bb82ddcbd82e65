/* tune_race.h - finds a primitive's fastest algo by running all of them on pseudo-random operands.
 *
 * Of algos whose times differ by less than 2 % the one with the smallest workspace wins.  The results of the winner are
 * compared with those of other algos (tune_check.h): if they differ, and those of two others are the same, the winner is
 * dropped and the next one is compared. */
#ifndef DDPM_TUNE_RACE_H
#define DDPM_TUNE_RACE_H
#include "backend/cuda/lib/cuda_rt.h"
#include "backend/cuda/lib/primitive.h"

typedef struct race_spec {
    void *stream;
    size_t l2;            /* bytes of second-level cache */
    size_t workspace_cap; /* algos that need more workspace, in bytes, are excluded */
    bool eager;           /* time launches one by one, not from a graph */
    double warm_seconds;  /* keep the device busy for so long before the first run: its clocks rise */
} race_spec;

/* *algo is the fastest algo, *us the median time of a run in microseconds.  An algo that fails is excluded;
 * DDPM_EBACKEND, with the reason of the last failure, if all fail.  *us < 0 and *algo = 0: there is not enough memory
 * to run any.  wrong->text: names the algos that were dropped for their results, "" if none was. */
DDPM_MUST_CHECK ddpm_status tune_race(const race_spec *spec, primitive *p, int *algo, float *us, err *wrong, err *e);

#endif
