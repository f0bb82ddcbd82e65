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

/* What a sampler needs beside the scheduler's config. */
typedef struct sampler_spec {
    sampler_kind kind;
    int steps;  /* num_inference_steps; 0: all timesteps.  Some samplers evaluate the network more often */
    int skip;   /* steps left out at the start, for an image with noise; in [0, steps) */
    double eta; /* of ddim: 0 is deterministic, 1 is ancestral; of tcd: gamma */
    double churn, churn_min, churn_max, churn_noise; /* of euler, edm_euler and edm: S_churn, S_tmin, S_tmax, S_noise */
} sampler_spec;

/* The spec with which a folder's scheduler class samples: its sampler, no churn. */
sampler_spec sampler_spec_of(const scheduler_config *c, int steps);

typedef struct sampler_table {
    int n;                /* rows: network evaluations */
    int slots;            /* history that the rows use, 0 to SAMPLER_SLOTS */
    sampler_row *rows;    /* [n], in the order of sampling */
    double init;          /* x before rows[0] = init xi, pure noise */
    double signal, noise; /* x before rows[0] = signal image + noise xi, to start from an image */
} sampler_table;

/* DDPM_EINVAL: a number of steps, an order or a combination of options that the sampler does not have. */
DDPM_MUST_CHECK ddpm_status sampler_create(const schedule *s, const sampler_spec *spec, sampler_table **out, err *e);
void sampler_destroy(sampler_table *t);

/* The config with which a chosen sampler runs on a folder: the process is the folder's, the rest the defaults of the
 * sampler's class, unless the folder has this class. */
scheduler_config sampler_config(sampler_kind k, const scheduler_config *of_folder);
/* RePaint's resampling (Lugmayr et al. 2022, section 4.2) of a table without history. */
DDPM_MUST_CHECK ddpm_status sampler_resample(const schedule *s, sampler_table **t, int jump_length, int jump_n_sample,
                                             err *e);
/* A line about a choice that is known to be bad; NULL: none. */
const char *sampler_advice(const schedule *s, const sampler_spec *spec);

const char *sampler_name(sampler_kind k);                 /* "dpmpp_2m" */
sampler_kind sampler_of_class(const scheduler_config *c); /* the sampler of a folder's scheduler */

#endif
