/* memory_fit.h - the largest batch that fits into memory, for plans whose need is not proportional to the batch. */
#ifndef DDPM_MEMORY_FIT_H
#define DDPM_MEMORY_FIT_H
#include "model/model.h"

/* The need of a batch that is too large, and a function to compute that of another batch by planning it. */
typedef struct memory_fit_question {
    int batch;                                 /* the batch that is too large */
    size_t need, there;                        /* bytes needed by this batch, and bytes free */
    size_t fixed;                              /* bytes of `need` that do not depend on the batch */
    size_t (*needs)(void *context, int batch); /* bytes; 0: such a plan is not possible */
    void *context;
} memory_fit_question;

int memory_fit_batch(const memory_fit_question *q); /* the largest batch that fits; 0: no batch fits */

/* Estimated workspaces of a plan that is not prepared: 1 / MEMORY_FIT_WORKSPACE_PART of the bytes of weights, once, and
 * the same part of the bytes of activations.  The networks in configs/ need at most these. */
enum { MEMORY_FIT_WORKSPACE_PART = 4 };
typedef struct memory_fit_workspaces {
    size_t fixed;     /* bytes, for any batch */
    double per_image; /* bytes per image of the batch */
} memory_fit_workspaces;
memory_fit_workspaces memory_fit_guess(const model *m, size_t activations, int batch);
size_t memory_fit_workspace_bytes(memory_fit_workspaces w, int batch);

#endif
