/* trainer.h - the training step: noise, predict, compare, differentiate, update.
 *
 * A step is `micro_batches` calls of trainer_accumulate() and one trainer_update(); with one micro-batch
 * all of it is one plan, which trainer_accumulate() runs to the end.  Everything that
 * changes from step to step lives in one train_state (kernels/train_state.h). */
#ifndef DDPM_TRAINER_H
#define DDPM_TRAINER_H
#include "model/model.h"
#include "train_state.h"

/* Make the outputs of norms and dropout again in the backward pass: half of the activations need not be kept. */
typedef enum recompute_kind {
    RECOMPUTE_AUTO, /* as the backend would rather have it */
    RECOMPUTE_ON,
    RECOMPUTE_OFF,
} recompute_kind;

typedef struct trainer_spec {
    int batch, h, w; /* of one micro-batch; h and w in pixels */
    int micro_batches;
    int ahead;        /* micro-batches of images that the host keeps beside them (feed_ahead()) */
    bool sketch;      /* only say what it takes, at once: nothing is prepared or timed, workspaces are left out */
    int64_t resident; /* > 0: that many images, the whole data set, lie in the backend's memory (trainer_store()) */
    recompute_kind recompute;
    bool flip;        /* mirror half of the images */
    uint64_t seed;    /* of noise, timesteps, flips and dropout */
    step_attr update; /* .update: lr, betas, EMA, ... (ir/step.h) */
} trainer_spec;

typedef struct trainer trainer;

typedef struct trainer_memory {
    size_t weights;     /* bytes: weights and the backend's copies of them, gradients, moments, EMA */
    size_t activations; /* activations, their gradients and workspaces, overlaid */
    size_t unpacked;    /* what they would take without */
    size_t inputs;
    size_t ahead; /* images loaded ahead, where they lie in the same memory */
    double flops; /* of one image, forward and backward */
} trainer_memory;

/* Plan the step for the model and say what it takes; no large memory is touched.
 * DDPM_EINVAL: the network does not fit the images.  DDPM_ENOMEM, but not of a sketch: there is less memory than it
 * takes at least (trainer_fit_check()); that is found before anything is prepared. */
DDPM_MUST_CHECK ddpm_status trainer_create(model *m, const trainer_spec *spec, trainer **out, err *e);
void trainer_destroy(trainer *t);
trainer_memory trainer_needs(const trainer *t);
void trainer_dump(const trainer *t, FILE *to); /* the steps of the plan */
const plan *trainer_plan(const trainer *t);    /* of a micro-batch, to look at or to time its steps */

/* Take the memory (with the model's, where it has none).  Weights are neither drawn nor read here:
 * params_init(), params_load() or trainer_restore(). */
DDPM_MUST_CHECK ddpm_status trainer_allocate(trainer *t, err *e);

/* One micro-batch u8 [batch, h, w, c]. */
DDPM_MUST_CHECK ddpm_status trainer_accumulate(trainer *t, const uint8_t *images, err *e);
bool trainer_is_resident(const trainer *t);
/* With spec.resident: put images [first, first + count) u8 [count, h, w, c] there; after trainer_allocate(). */
DDPM_MUST_CHECK ddpm_status trainer_store(trainer *t, int64_t first, int64_t count, const uint8_t *images, err *e);
/* With spec.resident: one micro-batch of the stored images index[batch]. */
DDPM_MUST_CHECK ddpm_status trainer_accumulate_stored(trainer *t, const int64_t *index, err *e);
/* Clip, Adam, EMA.  A step with a loss or gradient that is not finite changes nothing but the counters. */
DDPM_MUST_CHECK ddpm_status trainer_update(trainer *t, err *e);
/* The state after the last update. */
DDPM_MUST_CHECK ddpm_status trainer_state(trainer *t, train_state *state, err *e);
/* The last TRAIN_HISTORY steps; see train_record. */
DDPM_MUST_CHECK ddpm_status trainer_history(trainer *t, train_record history[TRAIN_HISTORY], err *e);
DDPM_MUST_CHECK ddpm_status trainer_restore(trainer *t, const train_state *state, err *e);

#endif
