/* train_state.h - everything a training step needs to know that changes from step to step.
 *
 * It lives in the backend's memory.  Kernels read and advance it, so nothing in a step depends on
 * a host value and a recorded step can be replayed.  A checkpoint stores it as it is. */
#ifndef DDPM_TRAIN_STATE_H
#define DDPM_TRAIN_STATE_H
#include "cuda_port.h"
#include <stdint.h>

typedef struct train_state {
    uint64_t seed;               /* key of all random draws of the run */
    uint64_t sample;             /* ordinal in the run of the first image of the current micro-batch */
    uint64_t step;               /* optimizer steps taken, skipped ones included */
    uint64_t updates;            /* of these, applied: Adam's t */
    uint64_t skipped;            /* of these, skipped for a non-finite loss or gradient */
    double beta1_pow, beta2_pow; /* beta^updates; 1 at the start */
    double loss_sum;             /* of the micro-batch losses of the current step, already divided by their number */
    float loss;                  /* of the last finished step */
    float grad_norm;             /* global L2 norm before clipping, of the last finished step */
    float lr;                    /* learning rate of the last finished step */
    float clip;                  /* factor on the gradient of this update; 0 = the update is skipped */
    float step_size;             /* lr / (1 - beta1^t) */
    float denom_scale;           /* 1 / sqrt(1 - beta2^t) */
    float ema_decay;             /* of this update */
    float ema_rate;              /* 1 - ema_decay, rounded once */
} train_state;

/* What a finished step leaves for the log: step s in place s % TRAIN_HISTORY of a ring, which the host
 * reads now and then without holding up the steps. */
enum { TRAIN_HISTORY = 64 };
typedef struct train_record {
    float loss, grad_norm, lr; /* as in the state after that step */
    int32_t skipped;           /* was it? */
} train_record;

/* Columns of the training table, one row a timestep, filled in double by the host.
 *   x_t = signal x_0 + noise eps;  target = target_x0 x_0 + target_eps eps;  loss = weight (pred - target)^2 */
enum { TABLE_SIGNAL, TABLE_NOISE, TABLE_TARGET_X0, TABLE_TARGET_EPS, TABLE_WEIGHT, TABLE_COLUMNS };

#endif
