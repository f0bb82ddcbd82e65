/* ema_snapshot.h - averages by a power function (ema.sigma_rel), kept during a run so that averages of any other width
 * can be made of them afterwards (Karras et al. 2023, arXiv:2312.02696, section 3.2).
 *
 *   RUN/ema/step_00001000/snapshot.json        step, images seen, and gamma of each average
 *   RUN/ema/step_00001000/ema_0.safetensors    the averages, in half precision
 *
 * A snapshot is one transaction (atomic_dir.h); a resumed run writes those after its checkpoint again, the same. */
#ifndef DDPM_EMA_SNAPSHOT_H
#define DDPM_EMA_SNAPSHOT_H
#include "model/model.h"
#include "train/trainer.h"

/* Write the snapshot of the trainer's step; no average by a power function: nothing.  The caller holds the run's lock.
 * DDPM_EDIVERGED: a value that half precision cannot hold. */
DDPM_MUST_CHECK ddpm_status ema_snapshot_write(const char *run, const model *m, trainer *t, err *e);

typedef struct ema_request {
    const char *run;
    double sigma_rel; /* wanted width */
    int64_t at;       /* step whose average is wanted; 0: that of the last snapshot */
    int64_t last;     /* later snapshots are left out: they may be of a part of the run that was taken back */
} ema_request;

typedef struct ema_made {
    int64_t step;       /* whose average it is */
    int snapshots;      /* used averages */
    double least, most; /* weights among them */
} ema_made;

/* Make the average of the width that is wanted, into ARENA_PARAM of m, which is allocated; computed in double.
 * DDPM_ENOINPUT: there are no snapshots, or none of the step `at`; DDPM_EDATA: one is damaged. */
DDPM_MUST_CHECK ddpm_status ema_synthesize(const ema_request *q, model *m, ema_made *made, err *e);

#endif
