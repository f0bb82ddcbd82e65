/* cuda_tune.h - autotune: the fastest algo of every distinct problem.
 *
 * The algos of a problem are timed once, when the problem is first requested, on rotating buffers (together larger than
 * the L2 cache), and the fastest is kept.  The choice is written to a cache file, keyed by library versions, device,
 * driver, problem and search, and is read from the file the next time. */
#ifndef DDPM_CUDA_TUNE_H
#define DDPM_CUDA_TUNE_H
#include "backend/cuda/lib/cuda_rt.h"
#include "backend/cuda/lib/primitive.h"
#include <stdio.h>

typedef struct tuner tuner;

typedef struct tuner_spec {
    const char *file;    /* NULL or "": no cache file.  Created if missing; on an I/O error there is one warning
                            (tuner_warning()) and no cache */
    const char *shared;  /* a second file, of the user (autotune_cache.h); NULL or "": none */
    const char *machine; /* library versions, device and driver, as text without line breaks */
    void *stream;
    size_t l2; /* bytes */
    bool deterministic;
    size_t workspace_cap;
    bool untimed;        /* keep each problem's first algo, and neither read nor write the file */
    double warm_seconds; /* keep the device busy for so long before the first race (tune_race.h) */
    bool eager;          /* algos will be launched eagerly, not from a graph, and are timed that way */
} tuner_spec;

DDPM_MUST_CHECK ddpm_status tuner_create(const tuner_spec *spec, tuner **out, err *e);
void tuner_destroy(tuner *c);              /* takes NULL; destroys the primitives */
void tuner_save(tuner *c);                 /* writes the cache file; call before the chosen algos are used */
const char *tuner_warning(const tuner *c); /* "": no warning */

/* Creates the primitive of problem `q` with this search; *out = NULL where the library has no algo, with a reason in
 * e->text if the user should see it (tuner_warning()). */
typedef ddpm_status primitive_maker(void *context, const void *q, const primitive_search *how, primitive **out, err *e);

/* The primitive of the problem, created by `make` when the problem is first requested; owned by c.  `problem` is the
 * problem as text, unique over all makers.  *out is NULL where the maker has none. */
DDPM_MUST_CHECK ddpm_status tuner_get(tuner *c, const char *problem, primitive_maker *make, void *context,
                                      const void *q, primitive **out, err *e);
size_t tuner_workspace(const primitive *p); /* of the kept algo */
/* A line for each problem: its text, the kept algo, microseconds (0: from the cache, not timed), algos timed. */
void tuner_report(const tuner *c, FILE *to);

#endif
