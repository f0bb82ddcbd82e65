#include "io/scheduler_config.h"
#include "io/json_in.h"
#include "io/json_out.h"
#include "io/unet_config.h"

#include <stdio.h>

static const char *const CLASSES[] = {"DDPMScheduler", "GaussianDDPMScheduler"}; /* the second is its old name */
static const char *const SCHEDULES[] = {"linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid"};
static const char *const VARIANCES[] = {"fixed_small", "fixed_large"};
static const char *const PREDICTIONS[] = {"epsilon", "sample", "v_prediction", "mu"};
static const char *const SPACINGS[] = {"leading", "linspace", "trailing"};

const char *scheduler_betas_name(scheduler_betas v) { return SCHEDULES[v]; }
const char *scheduler_variance_name(scheduler_variance v) { return VARIANCES[v]; }
const char *scheduler_prediction_name(scheduler_prediction v) { return PREDICTIONS[v]; }
const char *scheduler_spacing_name(scheduler_spacing v) { return SPACINGS[v]; }

scheduler_config scheduler_config_default(void)
{
    return (scheduler_config){
        .class_name = "DDPMScheduler",
        .num_train_timesteps = 1000,
        .beta_start = 0.0001,
        .beta_end = 0.02,
        .clip_sample = true,
        .clip_sample_range = 1.0,
    };
}

/* The key, or if it is absent its name in diffusers' first releases. */
static const char *present(json_in *j, const char *key, const char *first)
{
    return json_in_get(j, key) || !json_in_get(j, first) ? key : first;
}

static void read_values(json_in *j, scheduler_config *c)
{
    const char *steps = present(j, "num_train_timesteps", "timesteps");
    const char *clip = present(j, "clip_sample", "clip_predicted_image");
    c->num_train_timesteps = json_in_int(j, steps, c->num_train_timesteps, 1, SCHEDULER_MAX_TIMESTEPS);
    c->beta_start = json_in_real(j, "beta_start", c->beta_start, 0.0, 0.9999);
    c->beta_end = json_in_real(j, "beta_end", c->beta_end, 0.0, 0.9999);
    c->beta_schedule = (scheduler_betas)json_in_choice(j, "beta_schedule", 0, SCHEDULES, 4);
    c->variance_type = (scheduler_variance)json_in_choice(j, "variance_type", 0, VARIANCES, 2);
    c->clip_sample = json_in_bool(j, clip, c->clip_sample);
    c->clip_sample_range = json_in_real(j, "clip_sample_range", c->clip_sample_range, 1e-6, 1e6);
    const bool epsilon = json_in_bool(j, "predict_epsilon", true);
    c->prediction_type = (scheduler_prediction)json_in_choice(
        j, "prediction_type", epsilon ? SCHEDULER_EPSILON : SCHEDULER_SAMPLE, PREDICTIONS, 4);
    c->timestep_spacing = (scheduler_spacing)json_in_choice(j, "timestep_spacing", 0, SPACINGS, 3);
    c->steps_offset = json_in_int(j, "steps_offset", 0, 0, c->num_train_timesteps - 1);
}

static void refuse_the_rest(json_in *j)
{
    static const char *const off[] = {"thresholding", "rescale_betas_zero_snr"};
    static const char *const unused[] = {"dynamic_thresholding_ratio", "sample_max_value"};
    if (!json_in_null(j, "trained_betas")) json_in_fail(j, "trained_betas is not supported; it must be null");
    for (int i = 0; i < 2; i++) {
        if (json_in_bool(j, off[i], false)) json_in_fail(j, "%s is not supported; it must be false", off[i]);
        (void)json_in_get(j, unused[i]);
    }
    if (!json_in_bool(j, "set_alpha_to_one", true))
        json_in_fail(j, "set_alpha_to_one = false is not supported; it must be true");
}

static ddpm_status read_all(json_in *j, scheduler_config *c, notes *n)
{
    *c = scheduler_config_default();
    const int class = json_in_choice(j, "_class_name", 0, CLASSES, 2);
    (void)snprintf(c->class_name, sizeof c->class_name, "%s", CLASSES[class]);
    read_values(j, c);
    refuse_the_rest(j);
    if (c->beta_start <= 0.0 || c->beta_end < c->beta_start)
        json_in_fail(j, "beta_start = %g and beta_end = %g: must satisfy 0 < beta_start <= beta_end < 1", c->beta_start,
                     c->beta_end);
    return json_in_close(j, n);
}

ddpm_status scheduler_config_parse(const char *text, size_t size, const char *where, scheduler_config *c, notes *n,
                                   err *e)
{
    json_in j = json_in_text(text, size, where, e);
    return read_all(&j, c, n);
}

ddpm_status scheduler_config_read(const char *path, scheduler_config *c, notes *n, err *e)
{
    json_in j = json_in_file(path, e);
    return read_all(&j, c, n);
}

ddpm_status scheduler_config_write(const scheduler_config *c, const char *path, err *e)
{
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_text(&j, "_class_name", "DDPMScheduler");
    json_out_text(&j, "_diffusers_version", DIFFUSERS_VERSION);
    json_out_real(&j, "beta_end", c->beta_end);
    json_out_text(&j, "beta_schedule", SCHEDULES[c->beta_schedule]);
    json_out_real(&j, "beta_start", c->beta_start);
    json_out_bool(&j, "clip_sample", c->clip_sample);
    json_out_real(&j, "clip_sample_range", c->clip_sample_range);
    json_out_real(&j, "dynamic_thresholding_ratio", 0.995);
    json_out_int(&j, "num_train_timesteps", c->num_train_timesteps);
    json_out_text(&j, "prediction_type", PREDICTIONS[c->prediction_type]);
    json_out_bool(&j, "rescale_betas_zero_snr", false);
    json_out_real(&j, "sample_max_value", 1.0);
    json_out_int(&j, "steps_offset", c->steps_offset);
    json_out_bool(&j, "thresholding", false);
    json_out_text(&j, "timestep_spacing", SPACINGS[c->timestep_spacing]);
    json_out_text(&j, "trained_betas", NULL);
    json_out_text(&j, "variance_type", VARIANCES[c->variance_type]);
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}
