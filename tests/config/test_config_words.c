/* Words of options: each is a constant of its option's enum, is read as that, and is written back. */
#include "config/config.h"
#include "config/config_value.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define LENGTH(array) ((int)(sizeof(array) / sizeof(array)[0]))

static void *field(ddpm_config *c, int option) { return (char *)c + config_options[option].offset; }

static ddpm_status try_text(int option, const char *value, ddpm_config *c)
{
    char argument[256];
    (void)snprintf(argument, sizeof argument, "%s=%s", config_options[option].key, value);
    config_defaults(c);
    return config_assign(c, NULL, argument, NULL);
}

/* What the option holds after `text`: the constant of a word, or that of the only one of a list. */
static int word_in(int option, const char *text, ddpm_config *c)
{
    cr_assert_eq(try_text(option, text, c), DDPM_OK, "%s=%s", config_options[option].key, text);
    const config_words *words = field(c, option);
    if (config_options[option].type == CONFIG_TYPE_WORD) return *(const int *)field(c, option);
    cr_assert_eq(words->count, 1);
    return words->item[0];
}

Test(config_words, each_is_read_as_its_own_constant_and_written_back)
{
    ddpm_config c;
    char text[VALUE_TEXT], list[VALUE_TEXT];
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const config_option *o = &config_options[i];
        if (o->type != CONFIG_TYPE_WORD && o->type != CONFIG_TYPE_WORDS) continue;
        for (int w = 0; config_option_words[i][w]; w++) {
            const char *word = config_option_words[i][w];
            cr_assert(word[0] && strlen(word) < CONFIG_KEY, "%s", o->key);
            cr_expect_eq(word_in(i, word, &c), w, "%s=%s", o->key, word);
            cr_expect_eq(config_word_of((config_id)i, word), w, "%s: %s stands twice", o->key, word);
            cr_expect_str_eq(config_word_name((config_id)i, w), word);
            value_write(field(&c, i), o, text);
            (void)snprintf(list, sizeof list, "[%.60s]", word);
            cr_expect_str_eq(text, o->type == CONFIG_TYPE_WORD ? word : list);
        }
    }
}

Test(config_words, no_other_is_taken)
{
    ddpm_config c;
    char text[CONFIG_KEY];
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const char *const *words = config_option_words[i];
        if (!words || config_options[i].type == CONFIG_TYPE_PATH) continue;
        const char *const others[] = {"", "x", "AUTO", "0", words[0]};
        for (int k = 0; k < LENGTH(others); k++) {
            (void)snprintf(text, sizeof text, k == LENGTH(others) - 1 ? "%s_" : "%s", others[k]);
            cr_expect_eq(try_text(i, text, &c), DDPM_EINVAL, "%s=%s", config_options[i].key, text);
            cr_expect_eq(config_word_of((config_id)i, text), -1, "%s", text);
        }
    }
}

/* The constants of options.def, of which recipes and backends are made, against the words that users write. */
Test(config_words, constants_are_those_of_their_words)
{
    static const struct {
        int option;
        const char *word;
        int constant;
    } known[] = {{OPTION_precision, "tf32", ROOT_PRECISION_TF32},
                 {OPTION_cpu_conv, "winograd", CPU_CONV_WINOGRAD},
                 {OPTION_cuda_disable, "none", CUDA_DISABLE_NONE},
                 {OPTION_cuda_disable, "graph", CUDA_DISABLE_GRAPH},
                 {OPTION_cuda_disable, "beta", CUDA_DISABLE_BETA},
                 {OPTION_data_kind, "cifar10", DATA_KIND_CIFAR10},
                 {OPTION_data_resident, "false", DATA_RESIDENT_FALSE},
                 {OPTION_model_kind, "simple", MODEL_KIND_SIMPLE},
                 {OPTION_model_down_block_types, "AttnDownBlock2D", MODEL_DOWN_BLOCK_TYPES_ATTN_DOWN},
                 {OPTION_model_up_block_types, "AttnUpBlock2D", MODEL_UP_BLOCK_TYPES_ATTN_UP},
                 {OPTION_model_resnet_time_scale_shift, "scale_shift", MODEL_RESNET_TIME_SCALE_SHIFT_SCALE_SHIFT},
                 {OPTION_model_class_embed_type, "timestep", MODEL_CLASS_EMBED_TYPE_TIMESTEP},
                 {OPTION_diffusion_beta_schedule, "squaredcos_cap_v2", DIFFUSION_BETA_SCHEDULE_SQUAREDCOS_CAP_V2},
                 {OPTION_diffusion_predict, "v", DIFFUSION_PREDICT_V},
                 {OPTION_diffusion_variance_type, "fixed_large", DIFFUSION_VARIANCE_TYPE_FIXED_LARGE},
                 {OPTION_train_gradient_checkpointing, "true", TRAIN_GRADIENT_CHECKPOINTING_TRUE},
                 {OPTION_train_lr_scheduler, "cosine", TRAIN_LR_SCHEDULER_COSINE},
                 {OPTION_sample_timestep_spacing, "linspace", SAMPLE_TIMESTEP_SPACING_LINSPACE},
                 {OPTION_sample_variance_type, "fixed_large", SAMPLE_VARIANCE_TYPE_FIXED_LARGE},
                 {OPTION_sample_clip, "false", SAMPLE_CLIP_FALSE},
                 {OPTION_bench_data, "real", BENCH_DATA_REAL},
                 {OPTION_bench_plan, "sample", BENCH_PLAN_SAMPLE}};
    ddpm_config c;
    for (int i = 0; i < LENGTH(known); i++)
        cr_expect_eq(word_in(known[i].option, known[i].word, &c), known[i].constant, "%s", known[i].word);
    cr_expect_eq(config_word_of(OPTION_resume, "auto"), ROOT_RESUME_AUTO);
    cr_expect_eq(config_word_of(OPTION_resume, "never"), ROOT_RESUME_NEVER);
    cr_expect_eq(config_word_of(OPTION_resume, "runs/auto"), -1);
    cr_expect_eq(config_word_of(OPTION_sample_weights, "raw"), SAMPLE_WEIGHTS_RAW);
    cr_expect_eq(config_word_of(OPTION_sample_weights, "ema_1"), -1);
    cr_expect_eq(config_word_of(OPTION_autotune_cache, "auto"), ROOT_AUTOTUNE_CACHE_AUTO);
    cr_expect_eq(config_word_of(OPTION_seed, "auto"), -1, "an option without words");
}
