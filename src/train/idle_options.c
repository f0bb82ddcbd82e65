#include "train/idle_options.h"

#include <stdio.h>
#include <string.h>

/* An option that has an effect only with some words of another. */
typedef struct dependence {
    config_id option, of;
    unsigned words; /* bit i: with word i */
} dependence;

#define WITH(word) (1u << (word))
#define ANY_HUBER  (WITH(TRAIN_LOSS_TYPE_HUBER) | WITH(TRAIN_LOSS_TYPE_SMOOTH_L1) | WITH(TRAIN_LOSS_TYPE_PSEUDO_HUBER))
#define EDM_OR_VE  (WITH(DIFFUSION_PARAMETERIZATION_EDM) | WITH(DIFFUSION_PARAMETERIZATION_VE))
#define OF_A_RANGE (~WITH(DIFFUSION_BETA_SCHEDULE_SQUAREDCOS_CAP_V2))

static const dependence dependences[] = {
    {OPTION_diffusion_beta_start, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_DDPM)},
    {OPTION_diffusion_beta_end, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_DDPM)},
    {OPTION_diffusion_beta_schedule, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_DDPM)},
    {OPTION_diffusion_variance_type, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_DDPM)},
    {OPTION_diffusion_clip_sample, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_DDPM)},
    {OPTION_diffusion_clip_sample_range, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_DDPM)},
    {OPTION_diffusion_rescale_betas_zero_snr, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_DDPM)},
    {OPTION_diffusion_sigma_min, OPTION_diffusion_parameterization, EDM_OR_VE},
    {OPTION_diffusion_sigma_max, OPTION_diffusion_parameterization, EDM_OR_VE},
    {OPTION_diffusion_sigma_data, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_EDM)},
    {OPTION_diffusion_rho, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_EDM)},
    {OPTION_diffusion_beta_d, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_VP)},
    {OPTION_diffusion_beta_min, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_VP)},
    {OPTION_diffusion_epsilon_t, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_VP)},
    {OPTION_diffusion_shift, OPTION_diffusion_parameterization, WITH(DIFFUSION_PARAMETERIZATION_FLOW)},
    {OPTION_diffusion_beta_start, OPTION_diffusion_beta_schedule, OF_A_RANGE},
    {OPTION_diffusion_beta_end, OPTION_diffusion_beta_schedule, OF_A_RANGE},
    {OPTION_train_rescale_learned_sigmas, OPTION_diffusion_variance_type, WITH(DIFFUSION_VARIANCE_TYPE_LEARNED_RANGE)},
    {OPTION_train_lr_num_cycles, OPTION_train_lr_scheduler, WITH(TRAIN_LR_SCHEDULER_COSINE_WITH_RESTARTS)},
    {OPTION_train_lr_power, OPTION_train_lr_scheduler, WITH(TRAIN_LR_SCHEDULER_POLYNOMIAL)},
    {OPTION_train_lr_end, OPTION_train_lr_scheduler, WITH(TRAIN_LR_SCHEDULER_POLYNOMIAL)},
    {OPTION_train_lr_step_rules, OPTION_train_lr_scheduler, WITH(TRAIN_LR_SCHEDULER_PIECEWISE_CONSTANT)},
    {OPTION_train_huber_c, OPTION_train_loss_type, ANY_HUBER},
    {OPTION_train_huber_schedule, OPTION_train_loss_type, ANY_HUBER},
    {OPTION_train_snr_gamma, OPTION_train_loss_weighting, WITH(TRAIN_LOSS_WEIGHTING_MIN_SNR)},
    {OPTION_train_p2_k, OPTION_train_loss_weighting, WITH(TRAIN_LOSS_WEIGHTING_P2)},
    {OPTION_train_p2_gamma, OPTION_train_loss_weighting, WITH(TRAIN_LOSS_WEIGHTING_P2)},
    {OPTION_train_logit_mean, OPTION_train_timestep_sampling, WITH(TRAIN_TIMESTEP_SAMPLING_LOGIT_NORMAL)},
    {OPTION_train_logit_std, OPTION_train_timestep_sampling, WITH(TRAIN_TIMESTEP_SAMPLING_LOGIT_NORMAL)},
    {OPTION_train_mode_scale, OPTION_train_timestep_sampling, WITH(TRAIN_TIMESTEP_SAMPLING_MODE)},
    {OPTION_train_P_mean, OPTION_train_timestep_sampling, WITH(TRAIN_TIMESTEP_SAMPLING_LOG_NORMAL)},
    {OPTION_train_P_std, OPTION_train_timestep_sampling, WITH(TRAIN_TIMESTEP_SAMPLING_LOG_NORMAL)},
};

static int word_of(const ddpm_config *c, config_id option)
{
    int word;
    memcpy(&word, (const char *)c + config_options[option].offset, sizeof word);
    return word;
}

/* The word that decides: what auto stands for. */
static int deciding_word(const ddpm_config *c, config_id option)
{
    const int word = word_of(c, option);
    if (option != OPTION_train_timestep_sampling || word != TRAIN_TIMESTEP_SAMPLING_AUTO) return word;
    return c->diffusion.parameterization == DIFFUSION_PARAMETERIZATION_EDM ? TRAIN_TIMESTEP_SAMPLING_LOG_NORMAL
                                                                           : TRAIN_TIMESTEP_SAMPLING_UNIFORM;
}

static void add(char *list, size_t cap, config_id option)
{
    const size_t used = strlen(list);
    (void)snprintf(list + used, cap - used, "%s%s", used ? ", " : "", config_options[option].key);
}

static bool is_of_network(config_id option)
{
    return !strncmp(config_options[option].key, "model.", strlen("model.")) && option != OPTION_model_kind &&
           option != OPTION_model_init_from;
}

/* The options that are idle because of the word of option `of`. */
static void note_dependent(const ddpm_config *c, config_id of, notes *remarks)
{
    char list[400] = "";
    const int word = deciding_word(c, of);
    for (size_t i = 0; i < sizeof dependences / sizeof *dependences; i++) {
        const dependence *d = &dependences[i];
        if (d->of == of && !(d->words >> word & 1) && config_is_chosen(c, d->option)) add(list, sizeof list, d->option);
    }
    if (list[0])
        notes_add(remarks, "options that have no effect with %s=%s: %s", config_options[of].key,
                  config_word_name(of, word_of(c, of)), list);
}

void note_idle_options(const ddpm_config *c, const network *net, notes *remarks)
{
    char list[400] = "";
    for (int i = 0; i < CONFIG_OPTIONS && net->kind == NETWORK_SIMPLE && !c->model.init_from[0]; i++)
        if (is_of_network((config_id)i) && config_is_chosen(c, (config_id)i)) add(list, sizeof list, (config_id)i);
    if (list[0])
        notes_add(remarks, "options that have no effect with model.kind=%s: %s",
                  config_word_name(OPTION_model_kind, c->model.kind), list);
    if (net->kind == NETWORK_UNET && !unet_config_conditional(&net->unet) && !c->model.init_from[0] &&
        config_is_chosen(c, OPTION_model_class_embed_type))
        notes_add(remarks, "options that have no effect with model.num_class_embeds=0: %s",
                  config_options[OPTION_model_class_embed_type].key);
    for (size_t i = 0; i < sizeof dependences / sizeof *dependences; i++)
        if (i == 0 || dependences[i].of != dependences[i - 1].of) note_dependent(c, dependences[i].of, remarks);
}
