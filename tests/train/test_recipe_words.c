/* What the words of options mean to the engine: each something else, and what a folder says comes back as its word. */
#include "train/recipe_words.h"
#include "config/cuda_opts.def"

#include <criterion/criterion.h>

enum { MOST = 32 };

static int words_of(config_id option)
{
    int n = 0;
    while (config_option_words[option][n]) n++;
    cr_assert(n > 1 && n <= MOST);
    return n;
}

/* The kinds of an option's words, each of them once. */
static void expect_different(config_id option, const long kind[MOST])
{
    const int n = words_of(option);
    for (int i = 0; i < n; i++)
        for (int k = 0; k < i; k++)
            cr_expect_neq(kind[i], kind[k], "%s: %s and %s", config_options[option].key, config_word_name(option, i),
                          config_word_name(option, k));
}

#define EXPECT_DIFFERENT(option, of)                                                                                   \
    do {                                                                                                               \
        long kind[MOST];                                                                                               \
        for (int w = 0; w < words_of(OPTION_##option); w++) kind[w] = (long)of((config_##option)w);                    \
        expect_different(OPTION_##option, kind);                                                                       \
    } while (0)

Test(recipe_words, each_word_means_something_else)
{
    EXPECT_DIFFERENT(precision, recipe_to_precision);
    EXPECT_DIFFERENT(cpu_conv, recipe_to_conv);
    EXPECT_DIFFERENT(cuda_disable, recipe_to_cuda_opt);
    EXPECT_DIFFERENT(data_kind, recipe_to_dataset);
    EXPECT_DIFFERENT(data_labels, recipe_to_labels);
    EXPECT_DIFFERENT(model_kind, recipe_to_network);
    EXPECT_DIFFERENT(model_down_block_types, recipe_to_down_type);
    EXPECT_DIFFERENT(model_up_block_types, recipe_to_up_type);
    EXPECT_DIFFERENT(model_resnet_time_scale_shift, recipe_to_time_shift);
    EXPECT_DIFFERENT(model_class_embed_type, recipe_to_class_type);
    EXPECT_DIFFERENT(diffusion_beta_schedule, recipe_to_betas);
    EXPECT_DIFFERENT(diffusion_predict, recipe_to_prediction);
    EXPECT_DIFFERENT(diffusion_variance_type, recipe_to_variance);
    EXPECT_DIFFERENT(train_lr_scheduler, recipe_to_lr_schedule);
    EXPECT_DIFFERENT(train_gradient_checkpointing, recipe_to_recompute);
    EXPECT_DIFFERENT(train_loss_type, recipe_to_loss);
    EXPECT_DIFFERENT(train_huber_schedule, recipe_to_huber_schedule);
    EXPECT_DIFFERENT(train_loss_weighting, recipe_to_weighting);
    for (int w = 1; w < words_of(OPTION_train_timestep_sampling); w++) {
        const config_train_timestep_sampling word = (config_train_timestep_sampling)w;
        cr_expect_eq((int)recipe_to_timestep_draw(word, DRAW_UNIFORM), w - 1);
        cr_expect_eq(recipe_to_timestep_draw(TRAIN_TIMESTEP_SAMPLING_AUTO, (timestep_draw_kind)(w - 1)), w - 1);
    }
}

/* diffusers' words are ours, where it has them. */
Test(recipe_words, what_a_folder_says_is_the_option_s_word)
{
    for (int w = 0; w < words_of(OPTION_diffusion_beta_schedule); w++) {
        const scheduler_betas kind = recipe_to_betas((config_diffusion_beta_schedule)w);
        cr_expect_eq(recipe_from_betas(kind), w);
        cr_expect_str_eq(config_word_name(OPTION_diffusion_beta_schedule, w), scheduler_betas_name(kind));
    }
    for (int w = 0; w < words_of(OPTION_diffusion_variance_type); w++) {
        const scheduler_variance kind = recipe_to_variance((config_diffusion_variance_type)w);
        cr_expect_eq(recipe_from_variance(kind), w);
        cr_expect_str_eq(config_word_name(OPTION_diffusion_variance_type, w), scheduler_variance_name(kind));
        cr_expect_eq(recipe_to_sample_variance((config_sample_variance_type)(w + 1), SCHEDULER_FIXED_SMALL), kind,
                     "inherit and then the same words");
    }
    for (int w = 0; w < words_of(OPTION_diffusion_predict); w++)
        cr_expect_eq(recipe_from_prediction(recipe_to_prediction((config_diffusion_predict)w)), w);
    for (int w = 1; w < words_of(OPTION_sample_timestep_spacing); w++)
        cr_expect_str_eq(
            config_word_name(OPTION_sample_timestep_spacing, w),
            scheduler_spacing_name(recipe_to_sample_spacing((config_sample_timestep_spacing)w, SCHEDULER_LEADING)));
    cr_expect_eq(recipe_to_prediction(DIFFUSION_PREDICT_X0), SCHEDULER_SAMPLE);
    cr_expect_eq(recipe_to_prediction(DIFFUSION_PREDICT_V), SCHEDULER_V_PREDICTION);
}

Test(recipe_words, what_is_inherited_is_the_model_s)
{
    cr_expect_eq(recipe_to_sample_variance(SAMPLE_VARIANCE_TYPE_INHERIT, SCHEDULER_FIXED_LARGE), SCHEDULER_FIXED_LARGE);
    cr_expect_eq(recipe_to_sample_spacing(SAMPLE_TIMESTEP_SPACING_INHERIT, SCHEDULER_TRAILING), SCHEDULER_TRAILING);
    cr_expect(recipe_to_sample_clip(SAMPLE_CLIP_INHERIT, true) && !recipe_to_sample_clip(SAMPLE_CLIP_INHERIT, false));
    cr_expect(recipe_to_sample_clip(SAMPLE_CLIP_TRUE, false) && !recipe_to_sample_clip(SAMPLE_CLIP_FALSE, true));
}

Test(recipe_words, switches_of_the_cuda_backend_are_its_bits)
{
    cr_expect_eq(recipe_to_cuda_opt(CUDA_DISABLE_NONE), 0);
#define OPTIMIZATION(NAME, word, bit)                                                                                  \
    cr_expect_eq(recipe_to_cuda_opt((config_cuda_disable)config_word_of(OPTION_cuda_disable, #word)), bit, #word);
    CUDA_OPT_LIST(OPTIMIZATION)
}
