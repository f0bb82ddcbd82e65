/* train_state.h - the state of a training run that changes from step to step.
 *
 * It lives in the backend's memory.  Kernels read and advance it, so that a step depends on no host value and a
 * captured graph can be replayed.  Checkpoints store it unchanged. */
#ifndef DDPM_TRAIN_STATE_H
#define DDPM_TRAIN_STATE_H
#include "cuda_port.h"
#include "rates.h"
#include <stdint.h>

enum { TRAIN_LEVELS = 8 }; /* ranges of noise levels of which the mean error is logged */

typedef struct train_state {
    uint64_t seed;               /* key of all random draws in the run */
    uint64_t sample;             /* ordinal number of the first image of the current micro-batch */
    uint64_t step;               /* optimizer steps taken, including skipped ones */
    uint64_t updates;            /* of these, applied ones: Adam's t */
    uint64_t skipped;            /* of these, skipped for a non-finite loss or gradient */
    double beta1_pow, beta2_pow; /* beta^updates; 1 at the start */
    /* sum of the losses of the current step's micro-batches, each divided by their number */
    double loss_sum;
    float loss;        /* of the last finished step */
    float grad_norm;   /* global L2 norm before clipping, of the last finished step */
    float lr;          /* learning rate of the last finished step */
    float clip;        /* factor on the gradient in this update; 0: the update is skipped */
    float step_size;   /* lr / (1 - beta1^t) */
    float denom_scale; /* 1 / sqrt(1 - beta2^t) */
    float ema_decay;   /* of this update */
    float ema_rate;    /* 1 - ema_decay, rounded once */
    /* The squared errors of the current step's images (loss.h) by noise level, and how many images there are, of those whose
     * error is finite. */
    double step_error[TRAIN_LEVELS], step_images[TRAIN_LEVELS];
    /* Sums over the steps since the last line of the log that were not skipped, for its means. */
    double interval_loss;
    uint64_t interval_steps;
    double level_error[TRAIN_LEVELS], level_images[TRAIN_LEVELS];
    float more_ema_rate[EMA_MORE]; /* as ema_rate, of the averages beside the first */
    /* The variational bound of the images of which it is finite, in bits per dimension (loss.h), and their number: of the
     * current step, and since the last line of the log. */
    double step_vb, step_vb_images, interval_vb, interval_vb_images;
} train_state;

/* The record of a finished step for the log.  Step s is at index s % TRAIN_HISTORY of a ring buffer, which the host
 * reads from time to time without delaying the steps. */
enum { TRAIN_HISTORY = 64 };
typedef struct train_record {
    float loss, grad_norm, lr; /* values of the state after that step */
    int32_t skipped;           /* 1 if the update was skipped */
} train_record;

/* Columns of the training table, which has one row per timestep and is computed in double by the host.  Each image of a
 * micro-batch is trained with a row of its own (draw.h).
 *   x_t = signal x_0 + noise eps;  target = target_x0 x_0 + target_eps eps;  loss = weight (pred - target)^2 */
enum {
    TABLE_SIGNAL,
    TABLE_NOISE,
    TABLE_TARGET_X0,
    TABLE_TARGET_EPS,
    TABLE_WEIGHT,
    TABLE_TIME,  /* what the network is told: any real number, the timestep for a discrete process */
    TABLE_LEVEL, /* range of noise levels, a whole number in [0, TRAIN_LEVELS), 0 with the least noise */
    TABLE_HUBER, /* where a loss of loss_kind.h turns from a square to an absolute value, > 0 */
    /* Of the reverse step to the timestep before (variational_bound.h), read where there is a variance: */
    TABLE_C_OUT,        /* x0_hat - x_0 = c_out (pred - target) */
    TABLE_X0_WEIGHT,    /* of x_0 in the mean of the posterior */
    TABLE_LOG_VARIANCE, /* ln of the posterior's variance; of the step to the image that of the step before */
    TABLE_LOG_SPAN,     /* ln beta minus that */
    TABLE_DECODER,      /* 1: the step leads to the image, else 0 */
    TABLE_COLUMNS
};

#endif
