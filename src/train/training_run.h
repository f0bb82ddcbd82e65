/* training_run.h - a complete training run, from a configuration to the last checkpoint. */
#ifndef DDPM_TRAINING_RUN_H
#define DDPM_TRAINING_RUN_H
#include "config/config.h"
#include "train/recipe.h"
#include "train/run_folder.h"

typedef enum run_request { RUN_CONTINUE, RUN_SAVE, RUN_STOP } run_request; /* STOP saves, too */

typedef struct run_status {
    const train_state *state;
    int64_t steps; /* of the whole run */
    int images_per_step;
    size_t memory; /* planned bytes */
} run_status;

/* Callbacks of a run.  Every function may be NULL. */
typedef struct run_hooks {
    void *context;
    void (*note)(void *context, const char *text); /* one line for the user, also written to log.txt */
    void (*begin)(void *context, const run_status *status);
    void (*step)(void *context, const run_status *status); /* after every step */
    run_request (*request)(void *context);                 /* called after every step */
} run_hooks;

/* Train by the configuration, in folder config->out.
 * DDPM_ESAVED: saved and stopped on request; the message says how to continue.  DDPM_EDIVERGED: too many
 * consecutive steps were not finite, and rollbacks did not help. */
DDPM_MUST_CHECK ddpm_status run_train(backend *be, const ddpm_config *config, const run_hooks *hooks, err *e);

#endif
