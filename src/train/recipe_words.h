/* recipe_words.h - conversion of the options' words into the enums of other modules, and back for values that a
 * pipeline folder sets. */
#ifndef DDPM_RECIPE_WORDS_H
#define DDPM_RECIPE_WORDS_H
#include "backend/backend.h"
#include "config/config.h"
#include "data/dataset.h"
#include "diffusion/sampler.h"
#include "io/scheduler_config.h"
#include "model/network.h"
#include "rates.h"
#include "train/trainer.h"

precision_kind recipe_to_precision(config_precision word);
conv_algo recipe_to_conv(config_cpu_conv word);
unsigned recipe_to_cuda_opt(config_cuda_disable word); /* bit in backend_spec.disabled; 0 for "none" */
dataset_kind_id recipe_to_dataset(config_data_kind word);
dataset_labels recipe_to_labels(config_data_labels word);

network_kind recipe_to_network(config_model_kind word);
unet_down_type recipe_to_down_type(config_model_down_block_types word);
unet_up_type recipe_to_up_type(config_model_up_block_types word);
unet_time_shift recipe_to_time_shift(config_model_resnet_time_scale_shift word);
unet_class_type recipe_to_class_type(config_model_class_embed_type word);

scheduler_betas recipe_to_betas(config_diffusion_beta_schedule word);
scheduler_prediction recipe_to_prediction(config_diffusion_predict word);
scheduler_variance recipe_to_variance(config_diffusion_variance_type word);
config_diffusion_beta_schedule recipe_from_betas(scheduler_betas kind);
config_diffusion_predict recipe_from_prediction(scheduler_prediction kind);
/* Consistency models, which are not trained, count as ddpm. */
config_diffusion_parameterization recipe_from_process(diffusion_process process);
config_diffusion_variance_type recipe_from_variance(scheduler_variance kind);

enum lr_schedule recipe_to_lr_schedule(config_train_lr_scheduler word);
loss_kind recipe_to_loss(config_train_loss_type word);
huber_schedule recipe_to_huber_schedule(config_train_huber_schedule word);
objective_weighting recipe_to_weighting(config_train_loss_weighting word);
timestep_draw_kind recipe_to_timestep_draw(config_train_timestep_sampling word, timestep_draw_kind otherwise);
recompute_kind recipe_to_recompute(config_train_gradient_checkpointing word);

/* For sampling: the model's value if the word is "inherit". */
scheduler_variance recipe_to_sample_variance(config_sample_variance_type word, scheduler_variance of_model);
scheduler_variance recipe_to_eval_variance(config_eval_variance_type word, scheduler_variance of_model);
scheduler_spacing recipe_to_sample_spacing(config_sample_timestep_spacing word, scheduler_spacing of_model);
bool recipe_to_sample_clip(config_sample_clip word, bool of_model);
bool recipe_to_sample_thresholding(config_sample_thresholding word, bool of_model);
scheduler_sigmas recipe_to_sample_sigmas(config_sample_sigmas word, scheduler_sigmas of_model);
scheduler_final recipe_to_sample_final(config_sample_final word, scheduler_final of_model);
sampler_kind recipe_to_sampler(config_sample_sampler word, sampler_kind of_model);

#endif
