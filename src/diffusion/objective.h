/* objective.h - the network's prediction target F, and the estimate of x_0 from it.
 *
 * Every target is linear in (x_0, eps), so that training needs two columns of a table, and sampling
 * computes x0_hat = c_skip x_t + c_out F:
 *   epsilon       target eps                           x0_hat = (x_t - noise F) / signal
 *   sample        target x_0                           x0_hat = F
 *   v_prediction  target signal eps - noise x_0        x0_hat = signal x_t - noise F
 *                 (Salimans & Ho 2022, arXiv:2202.00512, eq. 8 ff.)
 *   mu            target the posterior mean, eq. 7     x0_hat = (F - x_weight x_t) / x0_weight
 *                 (Ho et al. 2020, eq. 8)
 *   flow_prediction  target eps - x_0                  x0_hat = (x_t - noise F) / (signal + noise) */
#ifndef DDPM_OBJECTIVE_H
#define DDPM_OBJECTIVE_H
#include "diffusion/schedule.h"

typedef struct objective_inverse {
    double c_skip, c_out;
} objective_inverse;
objective_inverse objective_to_x0(const schedule *s, int t);

/* Fill table [T, TABLE_COLUMNS of kernels/train_state.h] for the schedule's prediction_type: weight 1, time t, and levels of
 * equally many timesteps. */
void objective_fill_table(const schedule *s, float *table);

#endif
