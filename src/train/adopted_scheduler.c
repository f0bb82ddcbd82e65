#include "train/adopted_scheduler.h"

#include <string.h>

/* Keys of sampling alone and their fields; sigmas is said by either of two keys. */
#define FIELD(key, field)                                                                                              \
    {                                                                                                                  \
        key, offsetof(scheduler_config, field), sizeof(((scheduler_config *)0)->field)                                 \
    }
static const struct {
    const char *key;
    size_t offset, size;
} kept[] = {FIELD("sigma_schedule", sigmas),
            FIELD("use_karras_sigmas", sigmas),
            FIELD("final_sigmas_type", final_sigmas_type),
            FIELD("stochastic_sampling", stochastic_sampling),
            FIELD("thresholding", thresholding),
            FIELD("dynamic_thresholding_ratio", dynamic_thresholding_ratio),
            FIELD("sample_max_value", sample_max_value)};

scheduler_config adopted_scheduler(const scheduler_config *process, const scheduler_config *of_folder)
{
    scheduler_config s = *process;
    s.timestep_spacing = of_folder->timestep_spacing;
    if (of_folder->steps_offset < s.num_train_timesteps) s.steps_offset = of_folder->steps_offset;
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (scheduler_config_has(&s, kept[i].key) && scheduler_config_has(of_folder, kept[i].key))
            memcpy((char *)&s + kept[i].offset, (const char *)of_folder + kept[i].offset, kept[i].size);
    return s;
}

void adopted_scheduler_note(const scheduler_config *saved, const scheduler_config *of_folder, notes *remarks)
{
    if (saved->type == of_folder->type) return;
    notes_add(
        remarks,
        "the checkpoints name %s, not the folder's %s, and have only those of its settings that both classes have; "
        "sample.sampler decides which class they name",
        scheduler_class_name(saved->type), scheduler_class_name(of_folder->type));
}
