/* resume.h - where a run begins: anew, or at a checkpoint; and what becomes of what its folder held already. */
#ifndef DDPM_RESUME_H
#define DDPM_RESUME_H
#include "train/checkpoint.h"
#include "train/run_folder.h"

typedef struct resume_question {
    run_folder *folder;
    ddpm_config *config;
    void (*say)(void *context, const char *text); /* one remark for the log */
    void *context;
} resume_question;

typedef struct resume_point {
    char dir[PATH_CAP]; /* the checkpoint, verified; "": the run begins anew */
    train_state state;  /* of the checkpoint */
    checkpoint_facts facts;
    ddpm_config before; /* the options of the run when the checkpoint was saved */
    bool compares;      /* they could be read */
    bool own;           /* the checkpoint lies in the run's folder */
    int64_t *later;     /* [n_later]  steps of checkpoints there that are not of the past of this one */
    int n_later;
} resume_point;

/* Find the checkpoint by config->resume.  Nothing is changed in the folder but what a crash left.  *config gets what a run
 * keeps from its beginning: model.init_from.
 * DDPM_EINVAL: the folder holds a run, and it is not said to go on with it; it holds later steps, or another run's, and
 * config->rewind is not set.  Else as checkpoint_find(). */
DDPM_MUST_CHECK ddpm_status resume_choose(const resume_question *q, resume_point *out, err *e);

/* Say which options differ from the checkpoint's.  DDPM_EINVAL: one that makes the network is not what it was. */
DDPM_MUST_CHECK ddpm_status resume_compare(const resume_question *q, const resume_point *p, err *e);
void resume_free(resume_point *p); /* takes a zeroed one */

/* Move aside what lies behind the point: later checkpoints, and metrics that the run will not write again. */
DDPM_MUST_CHECK ddpm_status resume_rewind(const resume_question *q, const resume_point *p, err *e);

#endif
