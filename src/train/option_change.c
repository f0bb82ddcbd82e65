#include "train/option_change.h"

#include <string.h>

static bool is_network(config_id option)
{
    return !strncmp(config_options[option].key, "model.", 6) && option != OPTION_model_dropout &&
           option != OPTION_model_init_from;
}

/* Does the option affect the results of the rest of the run? */
static bool matters(const ddpm_config *now, config_id option)
{
    static const char *const sections[] = {"data.", "diffusion.", "train.", "ema."};
    static const config_id idle[] = {OPTION_data_path,
                                     OPTION_data_prefetch,
                                     OPTION_data_cache_mb,
                                     OPTION_data_resident,
                                     OPTION_train_max_skipped,
                                     OPTION_train_max_rollbacks,
                                     OPTION_ema_snapshot_every,
                                     OPTION_ema_out,
                                     OPTION_ema_at,
                                     OPTION_train_gradient_checkpointing};
    const config_train_lr_scheduler rate = now->train.lr_scheduler;
    const bool ends_matter = rate != TRAIN_LR_SCHEDULER_CONSTANT && rate != TRAIN_LR_SCHEDULER_CONSTANT_WITH_WARMUP &&
                             rate != TRAIN_LR_SCHEDULER_PIECEWISE_CONSTANT; /* the others end at the last step */
    for (size_t i = 0; i < sizeof idle / sizeof *idle; i++)
        if (option == idle[i]) return false;
    if (option == OPTION_train_steps || option == OPTION_train_epochs) return ends_matter;
    if (option == OPTION_seed || option == OPTION_model_dropout || option == OPTION_precision ||
        option == OPTION_cpu_conv)
        return true;
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        if (!strncmp(config_options[option].key, sections[i], strlen(sections[i]))) return true;
    return false;
}

/* With model.num_class_embeds=-1 the network has one class more if labels are dropped. */
static bool adds_class(const ddpm_config *before, const ddpm_config *now, config_id option)
{
    return option == OPTION_train_label_dropout && now->model.num_class_embeds < 0 &&
           (before->train.label_dropout > 0) != (now->train.label_dropout > 0);
}

/* The same weights are another function: what the network reads and predicts has another meaning, or its output another
 * number of channels. */
static bool changes_meaning(const ddpm_config *before, const ddpm_config *now, config_id option)
{
    const config_diffusion_variance_type learned = DIFFUSION_VARIANCE_TYPE_LEARNED_RANGE;
    if (option == OPTION_diffusion_variance_type)
        return (before->diffusion.variance_type == learned) != (now->diffusion.variance_type == learned);
    return option == OPTION_diffusion_parameterization || option == OPTION_diffusion_predict;
}

option_change option_changed(const ddpm_config *before, const ddpm_config *now, config_id option)
{
    if (config_same(before, now, option)) return CHANGE_OF_NOTHING;
    if (is_network(option) || adds_class(before, now, option) || changes_meaning(before, now, option))
        return CHANGE_OF_NETWORK;
    return matters(now, option) ? CHANGE_OF_RESULTS : CHANGE_OF_NOTHING;
}
