/* training_run.h - a whole training, from a configuration to the last checkpoint. */
#ifndef DDPM_TRAINING_RUN_H
#define DDPM_TRAINING_RUN_H
#include "config/config.h"
#include "train/recipe.h"
#include "train/run_folder.h"

typedef enum run_request { RUN_CONTINUE, RUN_SAVE, RUN_STOP } run_request; /* go on; save and go on; save and leave */

typedef struct run_status {
    const train_state *state;
    int64_t steps; /* of the whole run */
    int images_per_step;
    size_t memory; /* bytes planned */
} run_status;

/* What a run tells and asks while it goes on.  Every function may be NULL. */
typedef struct run_hooks {
    void *context;
    void (*note)(void *context, const char *text); /* one line for people, also in log.txt */
    void (*begin)(void *context, const run_status *status);
    void (*step)(void *context, const run_status *status); /* after every step */
    run_request (*wish)(void *context);                    /* asked after every step */
} run_hooks;

/* Train as the configuration says, in folder config->out.
 * DDPM_ESAVED: a wish to stop was granted; the message says how to go on.  DDPM_EDIVERGED: too many
 * steps in a row were not finite. */
DDPM_MUST_CHECK ddpm_status run_train(backend *be, const ddpm_config *config, const run_hooks *hooks, err *e);

#endif
