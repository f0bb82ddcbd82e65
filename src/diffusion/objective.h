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
#include "diffusion/reverse_variance.h"
#include "loss_kind.h"
#include "train_state.h"

typedef struct objective_inverse {
    double c_skip, c_out;
} objective_inverse;
objective_inverse objective_to_x0(const schedule *s, int t);

/* How much the error at each noise level counts, as a factor of the squared error of x0_hat, SNR = signal^2 / noise^2:
 *   none           1 in the target's own space, as DDPM trains epsilon (Ho et al. 2020, eq. 14)
 *   snr            SNR: 1 for epsilon, whatever is predicted
 *   truncated_snr  max(SNR, 1)                Salimans & Ho 2022 (arXiv:2202.00512), section 4
 *   min_snr        min(SNR, snr_gamma)        Hang et al. 2023 (arXiv:2303.09556), eq. 8
 *   p2             SNR / (p2_k + SNR)^p2_gamma   Choi et al. 2022 (arXiv:2204.00227), eq. 8 */
typedef enum objective_weighting {
    WEIGHTING_NONE,
    WEIGHTING_SNR,
    WEIGHTING_TRUNCATED_SNR,
    WEIGHTING_MIN_SNR,
    WEIGHTING_P2
} objective_weighting;

/* The c of loss_kind.h over the timesteps, by diffusers' training scripts (Khrapov 2024, arXiv:2403.16728, section 3.3):
 * constant; exponential c^(t / T); snr (1 - c) / (1 + noise / signal)^2 + c. */
typedef enum huber_schedule { HUBER_CONSTANT, HUBER_EXPONENTIAL, HUBER_SNR } huber_schedule;

typedef struct objective {
    objective_weighting weighting;
    double snr_gamma, p2_k, p2_gamma; /* > 0, > 0, >= 0 */
    loss_kind loss;
    huber_schedule huber_schedule;
    double huber_c; /* > 0 */
    /* The network learns the variance between the two of reverse_variance.h, of a process of betas, by `bound` times the
     * variational bound (kernels/loss.h); kl: the bound is the whole loss, and loss, weighting are not read. */
    bool learned, kl;
    double bound;
} objective;
objective objective_default(void); /* none, l2 */

/* A noise level of training: the network sees signal x_0 + noise eps and `time`, and its target is of_x0 x_0 + of_eps eps.
 * x0_hat's error is c_out times that of the prediction. */
typedef struct training_level {
    double signal, noise, of_x0, of_eps, c_out, time;
} training_level;

/* The number of levels, and level i, the least noise first:
 *   betas  the timesteps
 *   flow   u = (i + 1) / T, shifted: signal 1 - u, noise u, target eps - x_0, time T u (FlowMatchEulerDiscreteScheduler)
 *   EDM    10000 values of ln sigma, evenly from sigma_min to sigma_max.  With H = hypot(sigma, sigma_data): signal 1 / H and
 *          noise sigma / H, as c_in is part of the input; target (sigma / sigma_data x_0 - sigma_data eps) / H, whose squared
 *          error is Karras et al.'s loss with its weight (table 1 and eq. 8); with v_prediction the negative; time ln sigma / 4.
 *          Neighbouring sigmas differ by 0.1 %.
 *   VP     10000 times t, evenly from epsilon_t to 1, sigma = vp_sigma(t): signal 1 / sqrt(1 + sigma^2), noise sigma times that,
 *          target eps, time (T - 1) t
 *   VE     10000 values of ln sigma, evenly from sigma_min to sigma_max: signal 1, noise sigma, target -eps, time
 *          ln(sigma / 2).  VP and VE: the same table of the same paper, where the losses have weight 1 in this target's
 *          space, too */
int training_levels(const schedule *s);
training_level training_level_at(const schedule *s, int i);

/* The columns of a reverse step in a row of the table.  c_out: x0_hat - x_0 = c_out (prediction - target). */
void objective_fill_variance(const reverse_variance *v, double c_out, float row[TABLE_COLUMNS]);

/* Fill table [training_levels(), TABLE_COLUMNS of kernels/train_state.h]. */
void objective_fill_table(const schedule *s, const objective *o, float *table);

#endif
