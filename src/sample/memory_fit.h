/* memory_fit.h - which batch fits the memory there is, for plans whose need is not proportional to the batch. */
#ifndef DDPM_MEMORY_FIT_H
#define DDPM_MEMORY_FIT_H
#include "model/model.h"

/* What a batch would need, found by planning. */
typedef struct memory_fit_question {
    int batch;                                 /* which needs too much */
    size_t need, there;                        /* bytes: of that batch; free */
    size_t fixed;                              /* bytes of `need` that are the same for every batch */
    size_t (*needs)(void *context, int batch); /* bytes; 0: no such plan */
    void *context;
} memory_fit_question;

int memory_fit_batch(const memory_fit_question *q); /* the largest batch that fits; 0: none */

/* What the workspaces of a plan that is not prepared come to: of the networks in configs/ at most these parts of the
 * bytes of weights, once, and of those of activations. */
enum { MEMORY_FIT_WORKSPACE_PART = 4 };
typedef struct memory_fit_workspaces {
    size_t fixed;     /* bytes for every batch */
    double per_image; /* bytes for each image of the batch */
} memory_fit_workspaces;
memory_fit_workspaces memory_fit_guess(const model *m, size_t activations, int batch);

#endif
