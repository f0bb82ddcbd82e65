/* timestep_draw.h - the distribution from which the levels of training are drawn (objective.h; timesteps, for betas).
 *
 *   uniform       t ~ U{0 .. T - 1}, T levels
 *   logit_normal  u = sigmoid(logit_mean + logit_std z), t = floor(u T)     Esser et al. 2024 (arXiv:2403.03206), eq. 19
 *   mode          u = 1 - v - mode_scale (cos^2(pi v / 2) - 1 + v)          the same, eq. 20; v ~ U(0, 1)
 *   log_normal    ln(noise / signal) = P_mean + P_std z, the nearest t      Karras et al. 2022 (arXiv:2206.00364), table 1
 *   loss_second_moment   by the losses of the run so far: kernels/loss_history.h, not here */
#ifndef DDPM_TIMESTEP_DRAW_H
#define DDPM_TIMESTEP_DRAW_H
#include "diffusion/objective.h"

typedef enum timestep_draw_kind {
    DRAW_UNIFORM,
    DRAW_LOGIT_NORMAL,
    DRAW_MODE,
    DRAW_LOG_NORMAL,
    DRAW_LOSS_SECOND_MOMENT
} timestep_draw_kind;

typedef struct timestep_draw {
    timestep_draw_kind kind;
    bool stratified;              /* kernels/draw.h */
    double logit_mean, logit_std; /* logit_std > 0 */
    double mode_scale;            /* in [-1, 2 / (pi - 2)], so that u falls with v */
    double P_mean, P_std;         /* P_std > 0 */
} timestep_draw;
timestep_draw timestep_draw_default(void); /* uniform; the papers' parameters */

/* Fill cumulative [training_levels() + 1]: level t has the probability (cumulative[t + 1] - cumulative[t]) / 2^32. */
void timestep_draw_fill(const timestep_draw *d, const schedule *s, int64_t *cumulative);

#endif
