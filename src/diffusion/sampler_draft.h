/* sampler_draft.h - a sampler's table in double, while its file fills it; private to src/diffusion/sampler*.c.
 *
 * A family's fill function makes the levels of noise that it visits (sampler_levels.c), then adds a row for each
 * network evaluation.  Errors are sticky: after the first, levels and rows are still there to be written, and the draft
 * is thrown away at the end. */
#ifndef DDPM_SAMPLER_DRAFT_H
#define DDPM_SAMPLER_DRAFT_H
#include "diffusion/sampler.h"
#include <math.h>

/* x = al x_0 + sg eps, at the scale that the network is given, and x0_hat = c_skip x + c_out F. */
typedef struct level {
    double t; /* what the network is told */
    double al, sg;
    double c_skip, c_out;
} level;

/* a x + b x0_hat */
typedef struct pair {
    double a, b;
} pair;

static const level LEVEL_CLEAN = {.al = 1};

static inline double level_sigma(const level *L) { return L->sg / L->al; }
static inline double level_lambda(const level *L) { return L->sg > 0 ? log(L->al / L->sg) : INFINITY; }
/* eps = (x - al x_0) / sg */
static inline pair level_eps(const level *L) { return (pair){1 / L->sg, -L->al / L->sg}; }
/* x at M with the x_0 and the eps of x at L: Song et al. 2021 (arXiv:2010.02502), eq. 13 */
static inline pair level_move(const level *L, const level *M)
{
    return (pair){M->sg / L->sg, M->al - L->al * M->sg / L->sg};
}

/* The row of sampler_row.h. */
typedef struct draft_row {
    double t, c_skip, c_out, clip;
    double a, b, e, s, w[SAMPLER_SLOTS], p, q, v;
    int slot;
    double al, sg; /* level of x before the row */
} draft_row;

typedef struct sampler_draft {
    const schedule *s;
    const scheduler_config *c;
    const sampler_spec *spec;
    const sampler_info *info;
    int steps;      /* of the whole way, spec.skip included */
    double clip;    /* of x0_hat, or dynamic thresholding's maximum; 0: none */
    double *sigma;  /* [T] noise / signal of each timestep; finite, at zero SNR too */
    level *levels;  /* [n + 1] those of the n steps, from spec.skip on, and the one where the last of them ends */
    int *timesteps; /* [n] of the families that need no levels */
    int n;
    draft_row *rows; /* [n_rows] */
    int n_rows, room;
    int slots;
    double init;
    level end; /* after the last row */
    ddpm_status st;
    err *e;
} sampler_draft;

/* A sampler's rows, complete and checked.  draft_destroy() frees what it holds, after an error too. */
DDPM_MUST_CHECK ddpm_status draft_create(sampler_draft *d, const schedule *s, const sampler_spec *spec, err *e);
void draft_destroy(sampler_draft *d);

/* Keeps the first error; the message begins with the sampler's name. */
void draft_fail(sampler_draft *d, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A new row that asks the network at L, with the draft's clip and all coefficients 0. */
draft_row *draft_add(sampler_draft *d, const level *L);

/* ---- levels (sampler_levels.c) ---- */

level level_at(sampler_draft *d, double t, double al, double sg);
level level_vp(sampler_draft *d, double sigma, double t);               /* al^2 + sg^2 = 1 */
level level_of_timestep(sampler_draft *d, int t, double abar_of_image); /* t < 0: the image's, abar_of_image */
/* By the preconditioning: Karras et al. 2022 (arXiv:2206.00364), table 1. */
level level_of_sigma(sampler_draft *d, double sigma);
double draft_sigma_at(const sampler_draft *d, double t);    /* linear between timesteps */
double draft_time_at(const sampler_draft *d, double sigma); /* linear in log sigma */

/* Each fills timesteps or levels, and n. */
void draft_timesteps(sampler_draft *d);
void draft_levels_k(sampler_draft *d);   /* of k-diffusion's samplers: t may be a fraction.  Sets init, too */
void draft_levels_dpm(sampler_draft *d); /* of DPM-Solver, UniPC, DEIS and SA-Solver: t is whole */
void draft_levels_edm(sampler_draft *d);
void draft_levels_flow(sampler_draft *d);
/* Of ddim and pndm, the timestep that step i goes to, negative for the image: the next one, or as diffusers has it T /
 * steps below. */
int draft_next_timestep(const sampler_draft *d, int i);
bool draft_steps_evenly(const sampler_draft *d);
int draft_max_steps(const sampler_draft *d);
double draft_churned(const sampler_draft *d, double sigma); /* Karras et al. 2022, algorithm 2: sigma_hat */

/* ---- noise levels in place of those of timesteps (sampler_sigmas.c) ---- */

/* The i-th of n sigmas from `high` down to `low`. */
double sigma_spaced(scheduler_sigmas kind, double high, double low, double rho, int i, int n);
/* x with I_x(a, b) = p: the quantile of a beta distribution; p in [0, 1] */
double beta_quantile(double p, double a, double b);

/* ---- the families ---- */
void fill_ddpm(sampler_draft *d);
void fill_ddim(sampler_draft *d);
void fill_ddim_inverse(sampler_draft *d);
void fill_euler(sampler_draft *d);
void fill_euler_ancestral(sampler_draft *d);
void fill_edm_euler(sampler_draft *d);
void fill_flow_euler(sampler_draft *d);
void fill_consistency(sampler_draft *d);
void fill_lcm(sampler_draft *d);
void fill_tcd(sampler_draft *d);
void fill_heun(sampler_draft *d);
void fill_edm(sampler_draft *d);
void fill_dpm2(sampler_draft *d);
void fill_lms(sampler_draft *d);
void fill_deis(sampler_draft *d);
void fill_unipc(sampler_draft *d);
void fill_sa(sampler_draft *d);
void fill_dpm_multistep(sampler_draft *d);
void fill_edm_dpm(sampler_draft *d);
void fill_dpm_singlestep(sampler_draft *d);
void fill_pndm(sampler_draft *d);

#endif
