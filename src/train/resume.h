/* resume.h - starting a run anew or from a checkpoint, and the handling of earlier contents of the run folder. */
#ifndef DDPM_RESUME_H
#define DDPM_RESUME_H
#include "train/checkpoint.h"
#include "train/run_classes.h"
#include "train/run_folder.h"

typedef struct resume_question {
    run_folder *folder;
    ddpm_config *config;
    void (*say)(void *context, const char *text); /* receives remarks for the log */
    void *context;
} resume_question;

typedef struct resume_point {
    char dir[PATH_CAP]; /* the verified checkpoint; "": the run begins anew */
    train_state state;  /* of the checkpoint */
    checkpoint_facts facts;
    ddpm_config before;      /* the run's options when the checkpoint was saved */
    bool compares;           /* `before` could be read */
    earlier_classes classes; /* of the checkpoint's network */
    bool own;                /* the checkpoint is in the run folder */
    int64_t *later;          /* [n_later]  steps of checkpoints in the run folder that do not precede this checkpoint */
    int n_later;
} resume_point;

/* Find the checkpoint by config->resume.  The folder is not changed, except for cleaning up after a crash.
 * config->model.init_from is set to that of the run's beginning, and ema.warmup, unless an option sets it.
 * DDPM_EINVAL: the folder holds a run and config->resume does not say to continue it; or it holds checkpoints of later
 * steps or of another run, and config->rewind is not set.  Other errors: those of checkpoint_find(). */
DDPM_MUST_CHECK ddpm_status resume_choose(const resume_question *q, resume_point *out, err *e);

/* Report the options that differ from the checkpoint's.  DDPM_EINVAL: an option that defines the network differs. */
DDPM_MUST_CHECK ddpm_status resume_compare(const resume_question *q, const resume_point *p, err *e);
void resume_free(resume_point *p); /* accepts a zeroed struct */

/* Move later checkpoints, and metrics that the run will not write again, to ckpt/superseded_NNN. */
DDPM_MUST_CHECK ddpm_status resume_rewind(const resume_question *q, const resume_point *p, err *e);

#endif
