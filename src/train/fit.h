/* fit.h - does a training fit the memory there is, and if not, what would? */
#ifndef DDPM_FIT_H
#define DDPM_FIT_H
#include "train/trainer.h"

/* What a batch would need, found by planning: it is not proportional to the batch. */
typedef struct fit_question {
    int batch;                                 /* which needs too much */
    size_t need, there;                        /* bytes: of that batch; free */
    size_t fixed;                              /* bytes of `need` that are the same for every batch */
    size_t (*needs)(void *context, int batch); /* bytes; 0: no such plan */
    void *context;
} fit_question;

int fit_batch(const fit_question *q); /* the largest batch that fits; 0: none */

/* What the workspaces of a plan that is not prepared come to: of the networks in configs/ at most these parts of the
 * bytes of weights, once, and of those of activations. */
enum { FIT_WORKSPACE_PART = 4 };
typedef struct fit_workspaces {
    size_t fixed;     /* bytes for every batch */
    double per_image; /* bytes for each image of the batch */
} fit_workspaces;
fit_workspaces fit_guess(const model *m, size_t activations, int batch);

size_t fit_total(trainer_memory need); /* bytes */

/* DDPM_ENOMEM, with gradient checkpointing or else the largest batch in the message, whichever fits, where `need` of a
 * trainer made by spec is more than the backend has free.  Backends that cannot tell let everything pass. */
DDPM_MUST_CHECK ddpm_status fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e);

/* The same of what it needs at least, without its workspaces: before anything is prepared or timed. */
DDPM_MUST_CHECK ddpm_status fit_sketch(model *m, const trainer_spec *spec, err *e);

#endif
