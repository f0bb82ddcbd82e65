/* sampler.h - samplers as tables: a row of coefficients per network evaluation, applied by one kernel.
 *
 * The rows (kernels/sampler_row.h) are computed in double from the schedule and its scheduler_config; the kernel, the
 * plan and the generator know no sampler.  x is kept at the scale that the network is given. */
#ifndef DDPM_SAMPLER_H
#define DDPM_SAMPLER_H
#include "diffusion/schedule.h"
#include "sampler_row.h"

typedef enum sampler_kind {
#define SAMPLER(id, name) SAMPLER_##id,
#include "config/sampler_names.def"
    SAMPLER_KINDS
} sampler_kind;

/* The options that change a sampler's table; the others are without effect on it. */
enum {
    SAMPLER_READS_ETA = 1 << 0,
    SAMPLER_READS_CHURN = 1 << 1,
    SAMPLER_READS_ORDER = 1 << 2,
    SAMPLER_READS_SIGMAS = 1 << 3,
    SAMPLER_READS_FINAL = 1 << 4,
    SAMPLER_READS_SPACING = 1 << 5,
    SAMPLER_READS_STEPS_OFFSET = 1 << 6,
    SAMPLER_READS_VARIANCE = 1 << 7,
    SAMPLER_READS_AS_DIFFUSERS = 1 << 8
};

struct sampler_draft; /* sampler_draft.h */

/* The properties of a sampler, for callers that choose one. */
typedef struct sampler_info {
    const char *name;                /* "dpmpp_2m" */
    scheduler_class scheduler;       /* the class of its config */
    unsigned reads;                  /* SAMPLER_READS_... */
    int order, min_order, max_order; /* order: that of the name; 0 if it has none to choose */
    scheduler_algorithm algorithm;   /* of classes with several, which the name implies */
    int min_steps;
    int per_step, more; /* network evaluations of n steps: per_step n + more */
    double eta;         /* default of sampler_spec.eta */
    bool can_skip;      /* it can start from an image with noise */
    bool from_images;   /* its x before the first row is an image: it leads to noise */
    void (*fill)(struct sampler_draft *d);
} sampler_info;
const sampler_info *sampler_info_of(sampler_kind k);
const char *sampler_name(sampler_kind k);
int sampler_evaluations(sampler_kind k, int steps);
/* The steps that users expect if they name none, of T timesteps: T for ddpm, otherwise 50 or fewer. */
int sampler_usual_steps(sampler_kind k, int T);

/* What a sampler needs beside the scheduler's config. */
typedef struct sampler_spec {
    sampler_kind kind;
    int steps;  /* num_inference_steps; 0: as many as there are.  Some samplers evaluate the network more often */
    int skip;   /* steps left out at the start, for an image with noise; in [0, steps) */
    double eta; /* of ddim: 0 is deterministic, 1 is ancestral; of tcd: gamma */
    double churn, churn_min, churn_max, churn_noise; /* of euler, heun, edm_euler and edm: S_churn, S_tmin, S_tmax,
                                                        S_noise */
    bool clipped_eps; /* of ddim: eps is that of the clipped x0_hat (use_clipped_model_output) */
    /* Step as diffusers' class does where that departs from the method: ddim and pndm go from t to t - T / steps,
     * whatever the next timestep is; the third order of dpmpp_3m and edm_dpmpp weighs the second difference by half,
     * which leaves it at second order, and that of sde-dpmsolver++ has a sign wrong. */
    bool as_diffusers;
} sampler_spec;

/* A sampler chosen by name, with its defaults: no churn, churn_max infinite. */
sampler_spec sampler_spec_default(sampler_kind k, int steps);
/* The spec with which a folder's scheduler class samples: its sampler, as diffusers has it. */
sampler_spec sampler_spec_of(const scheduler_config *c, int steps);
sampler_kind sampler_of_class(const scheduler_config *c); /* the sampler of a folder's scheduler */

/* The config with which a sampler, chosen by name, runs on a folder: that of the folder if it is of the sampler's class;
 * otherwise the folder's process (timesteps, betas, prediction, clip, thresholding, variance, noise levels of EDM, flow)
 * and the defaults of the sampler's class.  The order and the algorithm are those that the name implies, unless the
 * folder's scheduler is that sampler. */
scheduler_config sampler_config(sampler_kind k, const scheduler_config *of_folder);
/* DDPM_EINVAL: a network trained for one process (EDM, consistency, flow), sampled as another. */
DDPM_MUST_CHECK ddpm_status sampler_accepts(sampler_kind k, const scheduler_config *of_folder, err *e);
/* Sets the order of its solver, or of its predictor and corrector, in the config; checked by sampler_create(). */
void sampler_set_order(sampler_kind k, scheduler_config *c, int order);

/* One line about a choice known to give bad images, or NULL. */
const char *sampler_advice(const schedule *s, const sampler_spec *spec);

typedef struct sampler_table {
    int n;                /* rows: network evaluations */
    int slots;            /* history that the rows use, 0 to SAMPLER_SLOTS */
    sampler_row *rows;    /* [n], in the order of sampling */
    double init;          /* x before rows[0] = init xi, pure noise; of no use with spec.skip */
    double signal, noise; /* x before rows[0] = signal image + noise xi, to start from an image */
} sampler_table;

/* The schedule's config is of the sampler's class: see sampler_config().
 * DDPM_EINVAL: a number of steps, an order or a combination of options that the sampler does not have; a coefficient
 * that is not finite. */
DDPM_MUST_CHECK ddpm_status sampler_create(const schedule *s, const sampler_spec *spec, sampler_table **out, err *e);
void sampler_destroy(sampler_table *t);

/* Resampling of RePaint (Lugmayr et al. 2022, arXiv:2201.09865, algorithm 1 and figure 9): every jump_length steps of
 * the table, jump_n_sample - 1 times, x gets the noise of jump_length steps again and these are repeated.  The noise is
 * a part of the row before, so that rows are network evaluations still; their order is that of diffusers'
 * RePaintScheduler.  *t is replaced.
 * DDPM_EINVAL: a table with slots, or one whose variance is learned, or numbers below 1; *t is unchanged. */
DDPM_MUST_CHECK ddpm_status sampler_resample(sampler_table **t, int jump_length, int jump_n_sample, err *e);

#endif
