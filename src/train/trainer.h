/* trainer.h - the training step: noising, forward pass, loss, backward pass, optimizer.
 *
 * A step is `micro_batches` calls of trainer_accumulate() and one trainer_update().  With one micro-batch
 * the whole step is one plan, which trainer_accumulate() runs completely.  All state that changes from
 * step to step is in one train_state (kernels/train_state.h). */
#ifndef DDPM_TRAINER_H
#define DDPM_TRAINER_H
#include "diffusion/objective.h"
#include "diffusion/timestep_draw.h"
#include "model/model.h"
#include "plan/plan_finite.h"
#include "train_state.h"

/* Recompute the outputs of norms and dropout in the backward pass, so that half of the activations need not be kept. */
typedef enum recompute_kind {
    RECOMPUTE_AUTO, /* the backend's preference decides */
    RECOMPUTE_ON,
    RECOMPUTE_OFF,
} recompute_kind;

typedef struct trainer_spec {
    int batch, h, w; /* of one micro-batch; h and w in pixels */
    int micro_batches;
    int ahead;        /* micro-batches of images that the loader buffers on the host (feed_ahead()) */
    bool sketch;      /* only compute the memory need: prepares and autotunes nothing, omits workspaces */
    int64_t resident; /* > 0: images of a whole data set that is resident in the backend's memory (trainer_store()) */
    recompute_kind recompute;
    bool flip;           /* mirror half of the images */
    float label_dropout; /* probability in [0, 1] that an image is trained with the network's last class, "no class" */
    objective objective;
    timestep_draw timesteps;
    float noise_offset, input_perturbation; /* kernels/q_sample.h */
    uint64_t seed;                          /* for noise, timesteps, flips and dropout */
    step_attr update;                       /* .update: learning rate, betas, ... (ir/step.h) */
} trainer_spec;

typedef struct trainer trainer;

typedef struct trainer_memory {
    size_t weights;     /* bytes: weights and the backend's copies of them, gradients, moments, averages */
    size_t activations; /* activations, their gradients and workspaces, sharing memory by lifetime */
    size_t unpacked;    /* the same without sharing memory */
    size_t inputs;
    size_t ahead; /* images loaded ahead, if the backend computes in host memory */
    double flops; /* per image, forward and backward */
} trainer_memory;

/* Plan the training step of the model without allocating large memory.
 * DDPM_EINVAL: the network does not fit the images.  DDPM_ENOMEM (never for a sketch): less memory is free than a
 * sketch needs (trainer_fit_sketch()); this is checked before any step is prepared. */
DDPM_MUST_CHECK ddpm_status trainer_create(model *m, const trainer_spec *spec, trainer **out, err *e);
void trainer_destroy(trainer *t);
trainer_memory trainer_needs(const trainer *t);
void trainer_dump(const trainer *t, FILE *to);      /* the steps of the plan */
const ema_rule *trainer_averages(const trainer *t); /* [EMA_MOST]: the rules of the averages */
const plan *trainer_plan(const trainer *t);         /* the plan of a micro-batch, to inspect it or time its steps */

/* Allocate the memory (and the model's, if it has none).  The weights are set separately, by params_init(),
 * params_load() or checkpoint_restore(). */
DDPM_MUST_CHECK ddpm_status trainer_allocate(trainer *t, err *e);

/* Accumulate the gradients of one micro-batch u8 [batch, h, w, c].  labels [batch] in [0, num_class_embeds), if the
 * network has classes; else ignored, may be NULL.  DDPM_EINVAL: labels are missing or out of range. */
DDPM_MUST_CHECK ddpm_status trainer_accumulate(trainer *t, const uint8_t *images, const int64_t *labels, err *e);
bool trainer_is_resident(const trainer *t);
/* With spec.resident: upload images [first, first + count) u8 [count, h, w, c] and their labels [count], as for
 * trainer_accumulate(); call it after trainer_allocate(). */
DDPM_MUST_CHECK ddpm_status trainer_store(trainer *t, int64_t first, int64_t count, const uint8_t *images,
                                          const int64_t *labels, err *e);
/* With spec.resident: as trainer_accumulate() for the stored images index[batch]. */
DDPM_MUST_CHECK ddpm_status trainer_accumulate_stored(trainer *t, const int64_t *index, err *e);
/* Gradient clipping, Adam, averages.  A step with a non-finite loss or gradient changes only the counters. */
DDPM_MUST_CHECK ddpm_status trainer_update(trainer *t, err *e);
/* The state after the last update. */
DDPM_MUST_CHECK ddpm_status trainer_state(trainer *t, train_state *state, err *e);
/* The last TRAIN_HISTORY steps; see train_record. */
DDPM_MUST_CHECK ddpm_status trainer_history(trainer *t, train_record history[TRAIN_HISTORY], err *e);
DDPM_MUST_CHECK ddpm_status trainer_restore(trainer *t, const train_state *state, err *e);
/* The history [levels, HISTORY_COLUMNS of kernels/loss_history.h] by which levels are drawn: their number, 0 unless the spec
 * draws by loss_second_moment; its state after the last update; and to go on from, or NULL: none, as at the start. */
int trainer_loss_levels(const trainer *t);
DDPM_MUST_CHECK ddpm_status trainer_losses(trainer *t, float *losses, err *e);
DDPM_MUST_CHECK ddpm_status trainer_restore_losses(trainer *t, const float *losses, err *e);

/* Between two steps, look for the values that made a step non-finite: until trainer_unwatch(), a micro-batch (given as
 * usual, after trainer_restore() of the state before it) runs plan_first_not_finite() and advances no state. */
void trainer_watch(trainer *t, plan_finding *into);
/* End the search and restore `state`, which was read before it: the next step is as if nothing had been searched. */
DDPM_MUST_CHECK ddpm_status trainer_unwatch(trainer *t, const train_state *state, err *e);

#endif
