/* sampling_job.h - drawing a set of pictures, or one process's part of it, in a way that survives being killed at any
 * moment.
 *
 * A process draws the units u with u % ranks == rank, each locked while it works on it, and looks at what is there only
 * when it comes to the unit: what the unit's journal, or else the manifest, knows and the disk holds is kept.  Processes
 * do not speak with each other; the one that finds all units complete, and none in work, writes the overview and the
 * manifest.  The files are the same for every number of processes and every interruption. */
#ifndef DDPM_SAMPLING_JOB_H
#define DDPM_SAMPLING_JOB_H
#include "base/folder_lock.h"
#include "sample/picture_set.h"

/* Parts of the folder's lock: units of a set begin here. */
#define SAMPLING_UNIT_LOCKS ((int64_t)1 << 50)
/* The part that the process holds which ends the set; it has all units meanwhile, however long that takes. */
#define SAMPLING_END_LOCK (SAMPLING_UNIT_LOCKS - 1)

typedef struct sampling_job sampling_job;

typedef struct sampling_tally {
    int64_t total, done; /* pictures of this part; found or written */
    int64_t drawn;       /* new ones that were written */
    int64_t bytes;       /* of these, as stored */
    double waited;       /* seconds for which drawing waited for the disk */
    bool seen;           /* all units of the part have been looked at */
    bool complete;       /* the whole set is */
    int tiles;           /* on the overview */
} sampling_tally;

typedef struct sampling_job_spec {
    const picture_set *set;  /* its folder exists and describes the set */
    const folder_lock *lock; /* joined */
    int rank, ranks;
    int batch, threads; /* threads that encode and write */
    int columns;        /* of the overview; 0: nearly square */
    /* Draw pictures ids[n], 1 <= n <= batch, into pixels [n, h, w, c].  DDPM_ESAVED: sampling_job_stops(). */
    ddpm_status (*draw)(void *context, sampling_job *job, const int64_t *ids, int n, uint8_t *pixels, err *e);
    bool (*stop)(void *context); /* is a stop requested? */
    void (*tell)(void *context,
                 const sampling_tally *t); /* called for each unit that was looked at; NULL: not called */
    void *context;
} sampling_job_spec;

/* DDPM_ESAVED: stopped, everything drawn is written; DDPM_ELOCKED: other processes work on units of this part, all
 * others are done; DDPM_EIO; and the failures of draw(). */
DDPM_MUST_CHECK ddpm_status sampling_job_run(const sampling_job_spec *spec, sampling_tally *t, err *e);

/* For draw(): should it give up?  A stop is requested, or writing has failed. */
bool sampling_job_stops(sampling_job *job);
sampling_tally sampling_job_tally(sampling_job *job);

#endif
