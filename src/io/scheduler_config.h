/* scheduler_config.h - noise schedule and prediction type, as in scheduler_config.json of diffusers'
 * DDPMScheduler.
 *
 * Field names and meanings are those of diffusers (schedulers/scheduling_ddpm.py).  Supported keys:
 *   num_train_timesteps (old name: timesteps) beta_start beta_end beta_schedule variance_type
 *   clip_sample (old name: clip_predicted_image) clip_sample_range prediction_type (old name:
 *   predict_epsilon) timestep_spacing steps_offset, and _class_name.
 * Errors that name the key: other scheduler classes (also DDIMScheduler), trained_betas not null, thresholding true,
 * rescale_betas_zero_snr true, set_alpha_to_one false, the learned and the logarithmic variance types, other
 * schedules and prediction types.
 * dynamic_thresholding_ratio and sample_max_value have no effect without thresholding: they are
 * accepted, and written with their defaults.  Unknown keys are noted and ignored. */
#ifndef DDPM_SCHEDULER_CONFIG_H
#define DDPM_SCHEDULER_CONFIG_H
#include "base/err.h"
#include "base/notes.h"
#include <stdbool.h>
#include <stddef.h>

enum { SCHEDULER_MAX_TIMESTEPS = 1000000 };

typedef enum scheduler_betas {
    SCHEDULER_LINEAR,
    SCHEDULER_SCALED_LINEAR,
    SCHEDULER_SQUAREDCOS_CAP_V2,
    SCHEDULER_SIGMOID
} scheduler_betas;
typedef enum scheduler_variance { SCHEDULER_FIXED_SMALL, SCHEDULER_FIXED_LARGE } scheduler_variance;
/* mu, the mean of the reverse step, is our extension: diffusers loads such a file but cannot sample from it. */
typedef enum scheduler_prediction {
    SCHEDULER_EPSILON,
    SCHEDULER_SAMPLE,
    SCHEDULER_V_PREDICTION,
    SCHEDULER_MU
} scheduler_prediction;
typedef enum scheduler_spacing { SCHEDULER_LEADING, SCHEDULER_LINSPACE, SCHEDULER_TRAILING } scheduler_spacing;

typedef struct scheduler_config {
    char class_name[40];     /* as read; "DDPMScheduler" is written */
    int num_train_timesteps; /* T */
    double beta_start, beta_end;
    scheduler_betas beta_schedule;
    scheduler_variance variance_type;
    bool clip_sample; /* clip the predicted x0 to +- clip_sample_range */
    double clip_sample_range;
    scheduler_prediction prediction_type;
    scheduler_spacing timestep_spacing;
    int steps_offset; /* added to every timestep of the leading spacing, in [0, T) */
} scheduler_config;

/* The defaults of DDPMScheduler(): the values of the DDPM paper, with fixed_small. */
scheduler_config scheduler_config_default(void);

/* Accepts the class DDPMScheduler and its old name GaussianDDPMScheduler; all other classes sample differently.
 * DDPM_EDATA names the key, the value and the supported values. */
DDPM_MUST_CHECK ddpm_status scheduler_config_read(const char *path, scheduler_config *c, notes *n, err *e);
DDPM_MUST_CHECK ddpm_status scheduler_config_parse(const char *text, size_t size, const char *where,
                                                   scheduler_config *c, notes *n, err *e);

/* Write scheduler_config.json, byte for byte as DDPMScheduler.save_config() does. */
DDPM_MUST_CHECK ddpm_status scheduler_config_write(const scheduler_config *c, const char *path, err *e);

const char *scheduler_betas_name(scheduler_betas v); /* the value in diffusers' config: "linear" */
const char *scheduler_variance_name(scheduler_variance v);
const char *scheduler_prediction_name(scheduler_prediction v);
const char *scheduler_spacing_name(scheduler_spacing v);

#endif
