/* scheduler_config.h - the noise schedule and what the net predicts, as diffusers' DDPMScheduler says
 * it in scheduler_config.json.
 *
 * Field names and meanings are diffusers' own (schedulers/scheduling_ddpm.py).  Keys honoured:
 *   num_train_timesteps (first name: timesteps) beta_start beta_end beta_schedule variance_type
 *   clip_sample (first name: clip_predicted_image) clip_sample_range prediction_type (first:
 *   predict_epsilon) timestep_spacing steps_offset, and _class_name.
 * Refused by name: other scheduler classes (DDIMScheduler among them), trained_betas not null, thresholding true,
 * rescale_betas_zero_snr true, set_alpha_to_one false, the learned and the logarithmic variance types, other
 * schedules and predictions.
 * dynamic_thresholding_ratio and sample_max_value mean nothing without thresholding: they are
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
/* mu, the mean of the reverse step, is ours: diffusers loads such a file but cannot sample from it. */
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
    bool clip_sample; /* the predicted x0, to +- clip_sample_range */
    double clip_sample_range;
    scheduler_prediction prediction_type;
    scheduler_spacing timestep_spacing;
    int steps_offset; /* added to every timestep of the leading spacing, in [0, T) */
} scheduler_config;

/* DDPMScheduler(): the values of the DDPM paper, with fixed_small. */
scheduler_config scheduler_config_default(void);

/* The class DDPMScheduler and its first name GaussianDDPMScheduler are taken; every other class samples in another
 * way.  DDPM_EDATA names the key, the value and what is supported. */
DDPM_MUST_CHECK ddpm_status scheduler_config_read(const char *path, scheduler_config *c, notes *n, err *e);
DDPM_MUST_CHECK ddpm_status scheduler_config_parse(const char *text, size_t size, const char *where,
                                                   scheduler_config *c, notes *n, err *e);

/* Write scheduler_config.json as DDPMScheduler.save_config() does, to the byte. */
DDPM_MUST_CHECK ddpm_status scheduler_config_write(const scheduler_config *c, const char *path, err *e);

const char *scheduler_betas_name(scheduler_betas v); /* diffusers' words: "linear" */
const char *scheduler_variance_name(scheduler_variance v);
const char *scheduler_prediction_name(scheduler_prediction v);
const char *scheduler_spacing_name(scheduler_spacing v);

#endif
