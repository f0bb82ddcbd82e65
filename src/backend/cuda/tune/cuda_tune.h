/* cuda_tune.h - every distinct problem once, with the fastest of its algos.
 *
 * The first time a problem is met its algos are timed on rotating buffers (larger together than the
 * second-level cache) and the fastest is kept; the choice goes to a cache file, keyed by library
 * versions, device, driver, problem and search, and is taken from there the next time. */
#ifndef DDPM_CUDA_TUNE_H
#define DDPM_CUDA_TUNE_H
#include "backend/cuda/lib/cuda_rt.h"
#include "backend/cuda/lib/primitive.h"
#include <stdio.h>

typedef struct tuner tuner;

typedef struct tuner_spec {
    const char *file;    /* NULL or "": remember nothing beyond this process.  A file that is not there is begun;
                            one that cannot be read or written is said once in `remark` and done without */
    const char *machine; /* library versions, device and driver, as text without line breaks */
    void *stream;
    size_t l2; /* bytes */
    bool deterministic;
    size_t workspace_cap;
    bool untimed; /* keep every first algo, and leave the file alone */
    bool eager;   /* algos will be run by themselves, not from a graph: time them so */
} tuner_spec;

DDPM_MUST_CHECK ddpm_status tuner_create(const tuner_spec *spec, tuner **out, err *e);
void tuner_destroy(tuner *c);              /* takes NULL; destroys the primitives */
void tuner_save(tuner *c);                 /* to the file, before anything is computed by what was chosen */
const char *tuner_warning(const tuner *c); /* "": nothing to say */

/* Makes the primitive of problem `q` with this search; *out may be NULL where there is none. */
typedef ddpm_status primitive_maker(void *context, const void *q, const primitive_search *how, primitive **out, err *e);

/* The primitive for the problem, made by `make` the first time it is asked for; owned by c.  `problem`
 * is its text, unique over all makers.  *out is NULL where the maker has none. */
DDPM_MUST_CHECK ddpm_status tuner_get(tuner *c, const char *problem, primitive_maker *make, void *context,
                                      const void *q, primitive **out, err *e);
size_t tuner_workspace(const primitive *p); /* of the kept algo */
/* One line a problem: its text, the algo kept, microseconds (0: from the cache, not timed again), algos tried. */
void tuner_report(const tuner *c, FILE *to);

#endif
