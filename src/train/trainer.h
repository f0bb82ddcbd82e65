/* trainer.h - the training step: noise, predict, compare, differentiate, update.
 *
 * A step is `micro_batches` calls of trainer_accumulate() and one trainer_update().  Everything that
 * changes from step to step lives in one train_state (kernels/train_state.h). */
#ifndef DDPM_TRAINER_H
#define DDPM_TRAINER_H
#include "model/model.h"
#include "train_state.h"

typedef struct trainer_spec {
    int batch, h, w; /* of one micro-batch; h and w in pixels */
    int micro_batches;
    bool flip;        /* mirror half of the images */
    uint64_t seed;    /* of noise, timesteps, flips and dropout */
    step_attr update; /* .update: lr, betas, EMA, ... (plan/step.h) */
} trainer_spec;

typedef struct trainer trainer;

typedef struct trainer_memory {
    size_t weights;     /* bytes: weights, gradients, moments, EMA */
    size_t activations; /* activations, their gradients and workspaces, overlaid */
    size_t unpacked;    /* what they would take without */
    size_t inputs;
    double flops; /* of one image, forward and backward */
} trainer_memory;

/* Plan the step for the model and say what it takes; no large memory is touched.
 * DDPM_EINVAL: the network does not fit the images. */
DDPM_MUST_CHECK ddpm_status trainer_create(model *m, const trainer_spec *spec, trainer **out, err *e);
void trainer_destroy(trainer *t);
trainer_memory trainer_needs(const trainer *t);
void trainer_dump(const trainer *t, FILE *to); /* the steps of the plan */

/* Take the memory (with the model's, where it has none).  Weights are neither drawn nor read here:
 * params_init(), params_load() or trainer_restore(). */
DDPM_MUST_CHECK ddpm_status trainer_allocate(trainer *t, err *e);

/* One micro-batch u8 [batch, h, w, c]. */
DDPM_MUST_CHECK ddpm_status trainer_accumulate(trainer *t, const uint8_t *images, err *e);
/* Clip, Adam, EMA.  A step with a loss or gradient that is not finite changes nothing but the counters. */
DDPM_MUST_CHECK ddpm_status trainer_update(trainer *t, err *e);
/* The state after the last update. */
DDPM_MUST_CHECK ddpm_status trainer_state(trainer *t, train_state *state, err *e);
DDPM_MUST_CHECK ddpm_status trainer_restore(trainer *t, const train_state *state, err *e);

#endif
