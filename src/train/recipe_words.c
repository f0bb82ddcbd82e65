#include "train/recipe_words.h"

/* Each switch has a case for every constant, so that the compiler warns about a missing one (-Wswitch).  Code after a
 * switch is unreachable. */
/* clang-format off */
#define TO_KIND(word, kind) case word: return kind;
#define TO_WORD(word, kind) case kind: return word;
/* clang-format on */

/* ---- the machine and the images ------------------------------------------------------------------- */

precision_kind recipe_to_precision(config_precision word)
{
    switch (word) {
        TO_KIND(ROOT_PRECISION_AUTO, PRECISION_AUTO)
        TO_KIND(ROOT_PRECISION_BF16, PRECISION_BF16)
        TO_KIND(ROOT_PRECISION_TF32, PRECISION_TF32)
        TO_KIND(ROOT_PRECISION_FP32, PRECISION_FP32)
    }
    return PRECISION_AUTO;
}

conv_algo recipe_to_conv(config_cpu_conv word)
{
    switch (word) {
        TO_KIND(CPU_CONV_AUTO, CONV_ALGO_AUTO)
        TO_KIND(CPU_CONV_DIRECT, CONV_ALGO_DIRECT)
        TO_KIND(CPU_CONV_WINOGRAD, CONV_ALGO_WINOGRAD)
    }
    return CONV_ALGO_AUTO;
}

unsigned recipe_to_cuda_opt(config_cuda_disable word)
{
    switch (word) {
        TO_KIND(CUDA_DISABLE_NONE, 0)
#define OPTIMIZATION(NAME, word, bit) TO_KIND(CUDA_DISABLE_##NAME, bit)
        CUDA_OPT_LIST(OPTIMIZATION)
#undef OPTIMIZATION
    }
    return 0;
}

dataset_kind_id recipe_to_dataset(config_data_kind word)
{
    switch (word) {
        TO_KIND(DATA_KIND_AUTO, DATASET_AUTO)
        TO_KIND(DATA_KIND_DIGITS, DATASET_DIGITS)
        TO_KIND(DATA_KIND_IDX, DATASET_IDX)
        TO_KIND(DATA_KIND_CIFAR10, DATASET_CIFAR10)
        TO_KIND(DATA_KIND_FOLDER, DATASET_FOLDER)
    }
    return DATASET_AUTO;
}

dataset_labels recipe_to_labels(config_data_labels word)
{
    switch (word) {
        TO_KIND(DATA_LABELS_AUTO, DATASET_LABELS_AUTO)
        TO_KIND(DATA_LABELS_NONE, DATASET_LABELS_NONE)
        TO_KIND(DATA_LABELS_FOLDER, DATASET_LABELS_FOLDER)
        TO_KIND(DATA_LABELS_FILENAME, DATASET_LABELS_FILENAME)
        TO_KIND(DATA_LABELS_METADATA, DATASET_LABELS_METADATA)
    }
    return DATASET_LABELS_AUTO;
}

/* ---- the network ---------------------------------------------------------------------------------- */

network_kind recipe_to_network(config_model_kind word)
{
    switch (word) {
        TO_KIND(MODEL_KIND_UNET, NETWORK_UNET)
        TO_KIND(MODEL_KIND_SIMPLE, NETWORK_SIMPLE)
    }
    return NETWORK_UNET;
}

unet_down_type recipe_to_down_type(config_model_down_block_types word)
{
    switch (word) {
        TO_KIND(MODEL_DOWN_BLOCK_TYPES_DOWN, UNET_DOWN)
        TO_KIND(MODEL_DOWN_BLOCK_TYPES_ATTN_DOWN, UNET_ATTN_DOWN)
    }
    return UNET_DOWN;
}

unet_up_type recipe_to_up_type(config_model_up_block_types word)
{
    switch (word) {
        TO_KIND(MODEL_UP_BLOCK_TYPES_UP, UNET_UP)
        TO_KIND(MODEL_UP_BLOCK_TYPES_ATTN_UP, UNET_ATTN_UP)
    }
    return UNET_UP;
}

unet_time_shift recipe_to_time_shift(config_model_resnet_time_scale_shift word)
{
    switch (word) {
        TO_KIND(MODEL_RESNET_TIME_SCALE_SHIFT_DEFAULT, UNET_SHIFT_DEFAULT)
        TO_KIND(MODEL_RESNET_TIME_SCALE_SHIFT_SCALE_SHIFT, UNET_SHIFT_SCALE)
    }
    return UNET_SHIFT_DEFAULT;
}

unet_class_type recipe_to_class_type(config_model_class_embed_type word)
{
    switch (word) {
        TO_KIND(MODEL_CLASS_EMBED_TYPE_NULL, UNET_CLASS_NULL)
        TO_KIND(MODEL_CLASS_EMBED_TYPE_TIMESTEP, UNET_CLASS_TIMESTEP)
        TO_KIND(MODEL_CLASS_EMBED_TYPE_IDENTITY, UNET_CLASS_IDENTITY)
    }
    return UNET_CLASS_NULL;
}

/* ---- the diffusion process ------------------------------------------------------------------------ */

/* Both directions are generated from one list of pairs. */
#define BETAS(PAIR)                                                                                                    \
    PAIR(DIFFUSION_BETA_SCHEDULE_LINEAR, SCHEDULER_LINEAR)                                                             \
    PAIR(DIFFUSION_BETA_SCHEDULE_SCALED_LINEAR, SCHEDULER_SCALED_LINEAR)                                               \
    PAIR(DIFFUSION_BETA_SCHEDULE_SQUAREDCOS_CAP_V2, SCHEDULER_SQUAREDCOS_CAP_V2)                                       \
    PAIR(DIFFUSION_BETA_SCHEDULE_SIGMOID, SCHEDULER_SIGMOID)

scheduler_betas recipe_to_betas(config_diffusion_beta_schedule word)
{
    switch (word) {
        BETAS(TO_KIND)
    }
    return SCHEDULER_LINEAR;
}

config_diffusion_beta_schedule recipe_from_betas(scheduler_betas kind)
{
    switch (kind) {
        BETAS(TO_WORD)
    }
    return DIFFUSION_BETA_SCHEDULE_LINEAR;
}

#define PREDICTIONS(PAIR)                                                                                              \
    PAIR(DIFFUSION_PREDICT_EPS, SCHEDULER_EPSILON)                                                                     \
    PAIR(DIFFUSION_PREDICT_X0, SCHEDULER_SAMPLE)                                                                       \
    PAIR(DIFFUSION_PREDICT_MU, SCHEDULER_MU)                                                                           \
    PAIR(DIFFUSION_PREDICT_V, SCHEDULER_V_PREDICTION)

scheduler_prediction recipe_to_prediction(config_diffusion_predict word)
{
    switch (word) {
        PREDICTIONS(TO_KIND)
    }
    return SCHEDULER_EPSILON;
}

config_diffusion_parameterization recipe_from_process(diffusion_process process)
{
    switch (process) {
    case PROCESS_BETAS:
    case PROCESS_CONSISTENCY: break;
    case PROCESS_EDM: return DIFFUSION_PARAMETERIZATION_EDM;
    case PROCESS_FLOW: return DIFFUSION_PARAMETERIZATION_FLOW;
    case PROCESS_VP: return DIFFUSION_PARAMETERIZATION_VP;
    case PROCESS_VE: return DIFFUSION_PARAMETERIZATION_VE;
    }
    return DIFFUSION_PARAMETERIZATION_DDPM;
}

config_diffusion_predict recipe_from_prediction(scheduler_prediction kind)
{
    switch (kind) {
        PREDICTIONS(TO_WORD)
    case SCHEDULER_FLOW: break; /* what diffusion.parameterization=flow means by eps */
    }
    return DIFFUSION_PREDICT_EPS;
}

#define VARIANCES(PAIR)                                                                                                \
    PAIR(DIFFUSION_VARIANCE_TYPE_FIXED_SMALL, SCHEDULER_FIXED_SMALL)                                                   \
    PAIR(DIFFUSION_VARIANCE_TYPE_FIXED_LARGE, SCHEDULER_FIXED_LARGE)                                                   \
    PAIR(DIFFUSION_VARIANCE_TYPE_LEARNED, SCHEDULER_LEARNED)                                                           \
    PAIR(DIFFUSION_VARIANCE_TYPE_LEARNED_RANGE, SCHEDULER_LEARNED_RANGE)

scheduler_variance recipe_to_variance(config_diffusion_variance_type word)
{
    switch (word) {
        VARIANCES(TO_KIND)
    }
    return SCHEDULER_FIXED_SMALL;
}

config_diffusion_variance_type recipe_from_variance(scheduler_variance kind)
{
    switch (kind) {
        VARIANCES(TO_WORD)
    }
    return DIFFUSION_VARIANCE_TYPE_FIXED_SMALL;
}

/* ---- training ------------------------------------------------------------------------------------- */

enum lr_schedule recipe_to_lr_schedule(config_train_lr_scheduler word)
{
    switch (word) {
        TO_KIND(TRAIN_LR_SCHEDULER_CONSTANT, LR_CONSTANT)
        TO_KIND(TRAIN_LR_SCHEDULER_CONSTANT_WITH_WARMUP, LR_CONSTANT_WITH_WARMUP)
        TO_KIND(TRAIN_LR_SCHEDULER_LINEAR, LR_LINEAR)
        TO_KIND(TRAIN_LR_SCHEDULER_COSINE, LR_COSINE)
        TO_KIND(TRAIN_LR_SCHEDULER_COSINE_WITH_RESTARTS, LR_COSINE_WITH_RESTARTS)
        TO_KIND(TRAIN_LR_SCHEDULER_POLYNOMIAL, LR_POLYNOMIAL)
        TO_KIND(TRAIN_LR_SCHEDULER_PIECEWISE_CONSTANT, LR_PIECEWISE_CONSTANT)
    }
    return LR_CONSTANT;
}

loss_kind recipe_to_loss(config_train_loss_type word)
{
    switch (word) {
        TO_KIND(TRAIN_LOSS_TYPE_L2, LOSS_L2)
        TO_KIND(TRAIN_LOSS_TYPE_L1, LOSS_L1)
        TO_KIND(TRAIN_LOSS_TYPE_HUBER, LOSS_HUBER)
        TO_KIND(TRAIN_LOSS_TYPE_SMOOTH_L1, LOSS_SMOOTH_L1)
        TO_KIND(TRAIN_LOSS_TYPE_PSEUDO_HUBER, LOSS_PSEUDO_HUBER)
    }
    return LOSS_L2;
}

huber_schedule recipe_to_huber_schedule(config_train_huber_schedule word)
{
    switch (word) {
        TO_KIND(TRAIN_HUBER_SCHEDULE_CONSTANT, HUBER_CONSTANT)
        TO_KIND(TRAIN_HUBER_SCHEDULE_EXPONENTIAL, HUBER_EXPONENTIAL)
        TO_KIND(TRAIN_HUBER_SCHEDULE_SNR, HUBER_SNR)
    }
    return HUBER_CONSTANT;
}

objective_weighting recipe_to_weighting(config_train_loss_weighting word)
{
    switch (word) {
        TO_KIND(TRAIN_LOSS_WEIGHTING_NONE, WEIGHTING_NONE)
        TO_KIND(TRAIN_LOSS_WEIGHTING_SNR, WEIGHTING_SNR)
        TO_KIND(TRAIN_LOSS_WEIGHTING_TRUNCATED_SNR, WEIGHTING_TRUNCATED_SNR)
        TO_KIND(TRAIN_LOSS_WEIGHTING_MIN_SNR, WEIGHTING_MIN_SNR)
        TO_KIND(TRAIN_LOSS_WEIGHTING_P2, WEIGHTING_P2)
    }
    return WEIGHTING_NONE;
}

timestep_draw_kind recipe_to_timestep_draw(config_train_timestep_sampling word, timestep_draw_kind otherwise)
{
    switch (word) {
        TO_KIND(TRAIN_TIMESTEP_SAMPLING_AUTO, otherwise)
        TO_KIND(TRAIN_TIMESTEP_SAMPLING_UNIFORM, DRAW_UNIFORM)
        TO_KIND(TRAIN_TIMESTEP_SAMPLING_LOGIT_NORMAL, DRAW_LOGIT_NORMAL)
        TO_KIND(TRAIN_TIMESTEP_SAMPLING_MODE, DRAW_MODE)
        TO_KIND(TRAIN_TIMESTEP_SAMPLING_LOG_NORMAL, DRAW_LOG_NORMAL)
        TO_KIND(TRAIN_TIMESTEP_SAMPLING_LOSS_SECOND_MOMENT, DRAW_LOSS_SECOND_MOMENT)
    }
    return otherwise;
}

recompute_kind recipe_to_recompute(config_train_gradient_checkpointing word)
{
    switch (word) {
        TO_KIND(TRAIN_GRADIENT_CHECKPOINTING_AUTO, RECOMPUTE_AUTO)
        TO_KIND(TRAIN_GRADIENT_CHECKPOINTING_TRUE, RECOMPUTE_ON)
        TO_KIND(TRAIN_GRADIENT_CHECKPOINTING_FALSE, RECOMPUTE_OFF)
    }
    return RECOMPUTE_AUTO;
}

/* ---- sampling ------------------------------------------------------------------------------------- */

sampler_kind recipe_to_sampler(config_sample_sampler word, sampler_kind of_model)
{
    switch (word) {
        TO_KIND(SAMPLE_SAMPLER_AUTO, of_model)
#define SAMPLER(id, name) TO_KIND(SAMPLE_SAMPLER_##id, SAMPLER_##id)
#include "config/sampler_names.def"
    }
    return of_model;
}

scheduler_variance recipe_to_sample_variance(config_sample_variance_type word, scheduler_variance of_model)
{
    switch (word) {
        TO_KIND(SAMPLE_VARIANCE_TYPE_INHERIT, of_model)
        TO_KIND(SAMPLE_VARIANCE_TYPE_FIXED_SMALL, SCHEDULER_FIXED_SMALL)
        TO_KIND(SAMPLE_VARIANCE_TYPE_FIXED_LARGE, SCHEDULER_FIXED_LARGE)
        TO_KIND(SAMPLE_VARIANCE_TYPE_LEARNED, SCHEDULER_LEARNED)
        TO_KIND(SAMPLE_VARIANCE_TYPE_LEARNED_RANGE, SCHEDULER_LEARNED_RANGE)
    }
    return of_model;
}

scheduler_variance recipe_to_eval_variance(config_eval_variance_type word, scheduler_variance of_model)
{
    switch (word) {
        TO_KIND(EVAL_VARIANCE_TYPE_INHERIT, of_model)
        TO_KIND(EVAL_VARIANCE_TYPE_FIXED_SMALL, SCHEDULER_FIXED_SMALL)
        TO_KIND(EVAL_VARIANCE_TYPE_FIXED_LARGE, SCHEDULER_FIXED_LARGE)
        TO_KIND(EVAL_VARIANCE_TYPE_LEARNED_RANGE, SCHEDULER_LEARNED_RANGE)
    }
    return of_model;
}

scheduler_spacing recipe_to_sample_spacing(config_sample_timestep_spacing word, scheduler_spacing of_model)
{
    switch (word) {
        TO_KIND(SAMPLE_TIMESTEP_SPACING_INHERIT, of_model)
        TO_KIND(SAMPLE_TIMESTEP_SPACING_LEADING, SCHEDULER_LEADING)
        TO_KIND(SAMPLE_TIMESTEP_SPACING_TRAILING, SCHEDULER_TRAILING)
        TO_KIND(SAMPLE_TIMESTEP_SPACING_LINSPACE, SCHEDULER_LINSPACE)
        TO_KIND(SAMPLE_TIMESTEP_SPACING_QUADRATIC, SCHEDULER_QUADRATIC)
        TO_KIND(SAMPLE_TIMESTEP_SPACING_LOGSNR, SCHEDULER_LOGSNR)
    }
    return of_model;
}

scheduler_sigmas recipe_to_sample_sigmas(config_sample_sigmas word, scheduler_sigmas of_model)
{
    switch (word) {
        TO_KIND(SAMPLE_SIGMAS_INHERIT, of_model)
        TO_KIND(SAMPLE_SIGMAS_NONE, SCHEDULER_SIGMAS_NONE)
        TO_KIND(SAMPLE_SIGMAS_KARRAS, SCHEDULER_SIGMAS_KARRAS)
        TO_KIND(SAMPLE_SIGMAS_EXPONENTIAL, SCHEDULER_SIGMAS_EXPONENTIAL)
        TO_KIND(SAMPLE_SIGMAS_BETA, SCHEDULER_SIGMAS_BETA)
        TO_KIND(SAMPLE_SIGMAS_LU, SCHEDULER_SIGMAS_LU)
    }
    return of_model;
}

scheduler_final recipe_to_sample_final(config_sample_final word, scheduler_final of_model)
{
    switch (word) {
        TO_KIND(SAMPLE_FINAL_INHERIT, of_model)
        TO_KIND(SAMPLE_FINAL_ZERO, SCHEDULER_FINAL_ZERO)
        TO_KIND(SAMPLE_FINAL_SIGMA_MIN, SCHEDULER_FINAL_SIGMA_MIN)
    }
    return of_model;
}

bool recipe_to_sample_clip(config_sample_clip word, bool of_model)
{
    switch (word) {
        TO_KIND(SAMPLE_CLIP_INHERIT, of_model)
        TO_KIND(SAMPLE_CLIP_TRUE, true)
        TO_KIND(SAMPLE_CLIP_FALSE, false)
    }
    return of_model;
}

bool recipe_to_sample_thresholding(config_sample_thresholding word, bool of_model)
{
    switch (word) {
        TO_KIND(SAMPLE_THRESHOLDING_INHERIT, of_model)
        TO_KIND(SAMPLE_THRESHOLDING_TRUE, true)
        TO_KIND(SAMPLE_THRESHOLDING_FALSE, false)
    }
    return of_model;
}
