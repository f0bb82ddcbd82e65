/* run_parts.h - the state of a training run, for the files that it is made of: training_run.c (the loop), run_setup.c
 * (what comes before the first step), rollback.c (steps that are not finite) and skip_report.c (what is said of them). */
#ifndef DDPM_RUN_PARTS_H
#define DDPM_RUN_PARTS_H
#include "io/checkpoint_dir.h"
#include "train/image_feed.h"
#include "train/preview.h"
#include "train/resume.h"
#include "train/training_run.h"

typedef struct run {
    ddpm_config config; /* as given; a resumed run keeps its original seed */
    const run_hooks *hooks;
    backend *be;
    run_folder folder;
    dataset *data;
    feed *feed;
    model *m;
    trainer *trainer;
    preview *preview; /* NULL: no previews */
    size_t memory;    /* planned bytes, including previews */
    checkpoint_facts facts;
    train_state state; /* after the last step whose results were read */
    uint64_t given;    /* steps launched */
    int64_t steps;
    resume_point from;   /* the run's starting point */
    uint64_t saved_step; /* step of the newest checkpoint in the run folder; UINT64_MAX: none */
    bool proven;         /* a finite step followed the newest checkpoint, so its weights are good */
    bool prune_due;      /* older checkpoints are kept until a finite step follows the newest */
    bool save_due;       /* a save is postponed while steps are being skipped */
    checkpoint_known whole;
    uint64_t skipped_in_a_row;
    bool located;     /* where the values of these steps stop being finite was looked for */
    int failed_saves; /* consecutive */
    bool gave_up_saving;
    train_state since;             /* the state at the start, or after the last rollback */
    const char *since_what;        /* "resume" or "rollback" */
    run_request request;           /* the strongest pending request */
    double epoch_sum;              /* sum of the losses of the current epoch */
    int64_t epoch_steps;           /* steps of the epoch with a finite loss */
    bool metrics_failed;           /* the warning was printed */
    double line_time, line_waited; /* at the last line of metrics.jsonl */
    uint64_t line_sample;
} run;

/* A line for the user and for log.txt. */
__attribute__((format(printf, 2, 3))) void run_note(run *r, const char *fmt, ...);

static inline int run_images_per_step(const run *r)
{
    return r->config.train.batch * r->config.train.gradient_accumulation_steps;
}

/* The strongest pending request. */
run_request run_ask(run *r);

/* Remove older checkpoints.  A failure is only a warning, as the newest checkpoint is saved. */
void run_prune(run *r);

/* Warn about images that were lost since the last warning. */
void run_note_losses(run *r);

/* run_setup.c: everything before the first step: folder, starting point, data, model, weights, feed. */
DDPM_MUST_CHECK ddpm_status run_set_up(run *r, err *e);

/* rollback.c: count the step r->state.step.  True: train.max_skipped consecutive steps were not finite, and
 * run_roll_back() must be called. */
bool run_judge_step(run *r, bool skipped);

/* rollback.c: return to the newest checkpoint that a finite step followed, and continue with the sample after
 * r->state.sample.  DDPM_EDIVERGED: there is none, or train.max_rollbacks rollbacks did not help.  Other errors: the
 * state of the trainer is undefined, and r->gave_up_saving is set. */
DDPM_MUST_CHECK ddpm_status run_roll_back(run *r, err *e);

/* rollback.c: DDPM_EDIVERGED, with the checkpoint to continue from. */
ddpm_status run_diverged(run *r, err *e);

/* skip_report.c: note the skipped step r->state.step, with the first layer whose results are not finite, and append it
 * to skipped.jsonl.  `unchanged`: the weights are still those that it computed with, so that it can be repeated.  Only a
 * failure of the device or of the feed is an error. */
DDPM_MUST_CHECK ddpm_status run_report_skip(run *r, bool unchanged, err *e);

#endif
