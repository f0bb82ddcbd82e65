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

size_t fit_total(trainer_memory need); /* bytes */

/* DDPM_ENOMEM, with gradient checkpointing or else the largest batch in the message, whichever fits, where `need` of a trainer made by spec is
 * more than the backend has free.  Backends that cannot tell let everything pass. */
DDPM_MUST_CHECK ddpm_status fit_check(model *m, const trainer_spec *spec, trainer_memory need, err *e);

#endif
