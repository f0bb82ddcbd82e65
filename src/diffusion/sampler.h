/* sampler.h - samplers as tables: a row of coefficients per step, applied by one kernel.
 *
 *   x <- a x + b x0_hat + c x0_prev + d x_saved + s xi,   x0_hat = clip(c_skip x + c_out F)
 * The rows are computed in double from the schedule; kernels/sampler_step.h applies them. */
#ifndef DDPM_SAMPLER_H
#define DDPM_SAMPLER_H
#include "diffusion/schedule.h"
#include "sampler_step.h"

typedef struct sampler_table {
    int n;             /* rows: network evaluations */
    sampler_row *rows; /* [n], in the order of sampling: rows[0] starts from pure noise */
} sampler_table;

/* Ancestral sampling, Ho et al. 2020, algorithm 2, over `steps` timesteps of the schedule (0: all), with
 * the schedule's variance_type and clip_sample.  The last step adds no noise. */
DDPM_MUST_CHECK ddpm_status sampler_ddpm(const schedule *s, int steps, sampler_table **out, err *e);

void sampler_destroy(sampler_table *t);

#endif
