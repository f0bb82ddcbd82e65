/* scheduler_config.h - noise schedule, prediction type and sampler, as in the scheduler_config.json of diffusers.
 *
 * Field names and meanings are those of diffusers' schedulers; scheduler_classes.def lists the supported classes,
 * scheduler_keys.c their keys.  Errors name the key: classes and values that we do not implement
 * (use_dynamic_shifting true, for instance).  Absent keys have the class's own defaults.  Unknown keys are noted and
 * ignored. */
#ifndef DDPM_SCHEDULER_CONFIG_H
#define DDPM_SCHEDULER_CONFIG_H
#include "base/err.h"
#include "base/notes.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_out;

enum { SCHEDULER_MAX_TIMESTEPS = 1000000, SCHEDULER_MAX_TRAINED = 4096 };

/* DDPMScheduler, ...: SCHEDULER_CLASS_DDPM, ... */
typedef enum scheduler_class {
#define CLASS(id, name) SCHEDULER_CLASS_##id,
#include "io/scheduler_classes.def"
    SCHEDULER_CLASSES
} scheduler_class;

typedef enum scheduler_betas {
    SCHEDULER_LINEAR,
    SCHEDULER_SCALED_LINEAR,
    SCHEDULER_SQUAREDCOS_CAP_V2,
    SCHEDULER_SIGMOID
} scheduler_betas;
typedef enum scheduler_variance {
    SCHEDULER_FIXED_SMALL,
    SCHEDULER_FIXED_LARGE,
    SCHEDULER_LEARNED,      /* the network's second half of channels is the log variance */
    SCHEDULER_LEARNED_RANGE /* Nichol & Dhariwal 2021, eq. 15: it interpolates between the two fixed ones */
} scheduler_variance;
/* mu, the mean of the reverse step, is our extension: diffusers loads such a file but cannot sample from it. */
typedef enum scheduler_prediction {
    SCHEDULER_EPSILON,
    SCHEDULER_SAMPLE,
    SCHEDULER_V_PREDICTION,
    SCHEDULER_MU,
    SCHEDULER_FLOW /* flow_prediction: eps - x_0, x_t = (1 - sigma) x_0 + sigma eps */
} scheduler_prediction;
/* quadratic (Song et al. 2021, arXiv:2010.02502, appendix D.2) and logsnr (even in log signal to noise, Lu et al. 2022,
 * arXiv:2206.00927) are in no scheduler of diffusers; they are options of sampling alone. */
typedef enum scheduler_spacing {
    SCHEDULER_LEADING,
    SCHEDULER_LINSPACE,
    SCHEDULER_TRAILING,
    SCHEDULER_QUADRATIC,
    SCHEDULER_LOGSNR
} scheduler_spacing;
/* Noise levels in place of those of the timesteps: use_karras_sigmas and so on, at most one of them. */
typedef enum scheduler_sigmas {
    SCHEDULER_SIGMAS_NONE,
    SCHEDULER_SIGMAS_KARRAS,
    SCHEDULER_SIGMAS_EXPONENTIAL,
    SCHEDULER_SIGMAS_BETA,
    SCHEDULER_SIGMAS_LU
} scheduler_sigmas;
typedef enum scheduler_final { SCHEDULER_FINAL_ZERO, SCHEDULER_FINAL_SIGMA_MIN } scheduler_final;
typedef enum scheduler_algorithm {
    SCHEDULER_DPMSOLVER_PP, /* dpmsolver++ */
    SCHEDULER_DPMSOLVER,
    SCHEDULER_SDE_DPMSOLVER_PP,
    SCHEDULER_SDE_DPMSOLVER,
    SCHEDULER_DEIS,
    SCHEDULER_DATA_PREDICTION, /* of SASolver */
    SCHEDULER_NOISE_PREDICTION
} scheduler_algorithm;
typedef enum scheduler_solver {
    SCHEDULER_MIDPOINT,
    SCHEDULER_HEUN,
    SCHEDULER_BH2, /* of UniPC */
    SCHEDULER_BH1,
    SCHEDULER_LOGRHO /* of DEIS */
} scheduler_solver;

/* How the network of a process in sigma is wrapped, the columns of Karras et al. 2022 (arXiv:2206.00364), table 1: EDM's,
 * or those of Song et al. 2021 (arXiv:2011.13456).  The classes of EDM also sample networks of the other two. */
typedef enum scheduler_precond { SCHEDULER_PRECOND_EDM, SCHEDULER_PRECOND_VP, SCHEDULER_PRECOND_VE } scheduler_precond;

/* The union of the keys of all classes; a class reads and writes its own.  The others keep their defaults. */
typedef struct scheduler_config {
    scheduler_class type;
    int num_train_timesteps; /* T */
    double beta_start, beta_end;
    scheduler_betas beta_schedule;
    int n_trained_betas; /* 0: null; otherwise T, in place of the beta_schedule */
    double trained_betas[SCHEDULER_MAX_TRAINED];
    bool rescale_betas_zero_snr; /* Lin et al. 2023 (arXiv:2305.08891), algorithm 1 */
    scheduler_prediction prediction_type;
    scheduler_variance variance_type;
    bool clip_sample; /* clip the predicted x0 to +- clip_sample_range */
    double clip_sample_range;
    bool thresholding; /* dynamic: a quantile of each image's |x0|, in [1, sample_max_value], in place of the clip */
    double dynamic_thresholding_ratio, sample_max_value;
    scheduler_spacing timestep_spacing;
    int steps_offset;      /* added to every timestep of the leading spacing, in [0, T) */
    bool set_alpha_to_one; /* DDIM, PNDM, TCD and LCM end at the clean image, not at alpha-bar of t = 0 */
    bool skip_prk_steps;   /* of PNDM */
    int solver_order, predictor_order, corrector_order; /* of the solvers; the last two of SASolver */
    scheduler_algorithm algorithm_type;
    scheduler_solver solver_type;
    bool lower_order_final, euler_at_final;
    scheduler_sigmas sigmas;
    scheduler_final final_sigmas_type;
    double lambda_min_clipped;  /* -infinity: not clipped */
    bool predict_x0;            /* of UniPC */
    uint64_t disable_corrector; /* of UniPC: bit i for step i */
    bool use_flow_sigmas;
    double flow_shift;                       /* also FlowMatchEuler's shift */
    bool stochastic_sampling;                /* of FlowMatchEuler */
    double sigma_min, sigma_max, sigma_data; /* of EDM and consistency models */
    double rho;
    scheduler_precond precond;      /* of EDM's classes, ScoreSdeVp (VP) and ScoreSdeVe (VE) */
    double beta_min, beta_max;      /* of ScoreSdeVp: d ln(1 + sigma^2) / dt at t = 0 and t = 1 */
    double epsilon_t, sampling_eps; /* of ScoreSdeVp: the lowest t in training and in sampling */
    double s_noise;                 /* of consistency models */
    int original_inference_steps;   /* of LCM and TCD */
    double timestep_scaling;
} scheduler_config;

/* The defaults of DDPMScheduler(): the values of the DDPM paper, with fixed_small. */
scheduler_config scheduler_config_default(void);
/* The defaults of another class. */
scheduler_config scheduler_config_of(scheduler_class type);

/* `as`: the class to read the file as, whatever it names, as diffusers' from_config() does; NULL: the file's own.
 * DDPM_EDATA names the key, the value and the supported values. */
DDPM_MUST_CHECK ddpm_status scheduler_config_read(const char *path, const scheduler_class *as, scheduler_config *c,
                                                  notes *n, err *e);
DDPM_MUST_CHECK ddpm_status scheduler_config_parse(const char *text, size_t size, const char *where,
                                                   scheduler_config *c, notes *n, err *e);

/* Write scheduler_config.json, byte for byte as the class's save_config() does. */
DDPM_MUST_CHECK ddpm_status scheduler_config_write(const scheduler_config *c, const char *path, err *e);

/* The keys of a class as members of a JSON object; an infinite number is written as null. */
void scheduler_config_put(struct json_out *o, const scheduler_config *c);

bool scheduler_config_has(const scheduler_config *c, const char *key); /* has its class this key? */

const char *scheduler_class_name(scheduler_class v); /* "DDPMScheduler" */
bool scheduler_class_find(const char *name, scheduler_class *out);
const char *scheduler_betas_name(scheduler_betas v); /* the value in diffusers' config: "linear" */
const char *scheduler_variance_name(scheduler_variance v);
const char *scheduler_prediction_name(scheduler_prediction v);
const char *scheduler_spacing_name(scheduler_spacing v);
const char *scheduler_sigmas_name(scheduler_sigmas v); /* "none", "karras", ... */

#endif
