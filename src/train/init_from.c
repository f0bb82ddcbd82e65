#include "train/init_from.h"
#include "train/recipe.h"
#include "train/recipe_words.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SAID = 19, LIST = 500 }; /* options that a folder sets; bytes of a list of them */

/* An option's value in the folder. */
typedef struct said {
    config_id option;
    char text[CONFIG_KEY];
} said;

__attribute__((format(printf, 3, 4))) static void say(said *to, config_id option, const char *fmt, ...)
{
    va_list ap;
    to->option = option;
    va_start(ap, fmt);
    (void)vsnprintf(to->text, sizeof to->text, fmt, ap);
    va_end(ap);
}

/* The fewest digits that read back as v, as the text is also shown to users. */
static void say_real(said *to, config_id option, double v)
{
    int precision = 6;
    do say(to, option, "%.*g", precision, v);
    while (precision++ < 17 && strtod(to->text, NULL) != v);
}

static void say_word(said *to, config_id option, int word) { say(to, option, "%s", config_word_name(option, word)); }

static void read_folder(const network *net, const scheduler_config *s, said to[SAID])
{
    say_word(to++, OPTION_diffusion_parameterization, recipe_from_process(process_of(s)));
    say(to++, OPTION_diffusion_num_train_timesteps, "%d", s->num_train_timesteps);
    say_real(to++, OPTION_diffusion_beta_start, s->beta_start);
    say_real(to++, OPTION_diffusion_beta_end, s->beta_end);
    say_word(to++, OPTION_diffusion_beta_schedule, recipe_from_betas(s->beta_schedule));
    say(to++, OPTION_diffusion_rescale_betas_zero_snr, "%s", s->rescale_betas_zero_snr ? "true" : "false");
    say_real(to++, OPTION_diffusion_sigma_min, s->sigma_min);
    say_real(to++, OPTION_diffusion_sigma_max, s->sigma_max);
    say_real(to++, OPTION_diffusion_sigma_data, s->sigma_data);
    say_real(to++, OPTION_diffusion_rho, s->rho);
    say_real(to++, OPTION_diffusion_beta_d, s->beta_max - s->beta_min);
    say_real(to++, OPTION_diffusion_beta_min, s->beta_min);
    say_real(to++, OPTION_diffusion_epsilon_t, s->epsilon_t);
    say_real(to++, OPTION_diffusion_shift, s->flow_shift);
    say_word(to++, OPTION_diffusion_predict, recipe_from_prediction(s->prediction_type));
    say_word(to++, OPTION_diffusion_variance_type, recipe_from_variance(s->variance_type));
    say(to++, OPTION_diffusion_clip_sample, "%s", s->clip_sample ? "true" : "false");
    say_real(to++, OPTION_diffusion_clip_sample_range, s->clip_sample_range);
    say_real(to++, OPTION_model_dropout, net->unet.dropout);
}

/* Does the option describe the process of diffusion.parameterization?  Of another process it has another meaning. */
static bool describes_process(config_id option)
{
    static const config_id options[] = {
        OPTION_diffusion_beta_start, OPTION_diffusion_beta_end,  OPTION_diffusion_beta_schedule,
        OPTION_diffusion_sigma_min,  OPTION_diffusion_sigma_max, OPTION_diffusion_sigma_data,
        OPTION_diffusion_rho,        OPTION_diffusion_beta_d,    OPTION_diffusion_beta_min,
        OPTION_diffusion_epsilon_t,  OPTION_diffusion_shift,     OPTION_diffusion_rescale_betas_zero_snr};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (options[i] == option) return true;
    return false;
}

static bool is_set(const ddpm_config *c, config_id option) { return c->origin[option].source != CONFIG_DEFAULT; }

typedef struct lists { /* lists of options, for the notes */
    char taken[LIST], kept[LIST], idle[LIST];
} lists;

__attribute__((format(printf, 2, 3))) static void add(char list[LIST], const char *fmt, ...)
{
    const size_t used = strlen(list), comma = used ? 2 : 0;
    va_list ap;
    if (used + comma >= LIST) return;
    memcpy(list + used, ", ", comma + 1);
    va_start(ap, fmt);
    (void)vsnprintf(list + used + comma, LIST - used - comma, fmt, ap);
    va_end(ap);
}

static ddpm_status take_option(ddpm_config *c, const said *there, lists *l, err *e)
{
    const config_place unsaid = {.source = CONFIG_DEFAULT};
    const char *key = config_options[there->option].key;
    ddpm_config other;
    err why = {0};
    config_defaults(&other);
    const bool was_default = config_same(c, &other, there->option);
    const ddpm_status st = config_set(&other, there->option, &unsaid, there->text, &why);
    const bool same = st == DDPM_OK && config_same(c, &other, there->option);
    if (is_set(c, there->option)) {
        if (!same) add(l->kept, "%s (in the folder: %s)", key, there->text);
        return DDPM_OK;
    }
    if (st != DDPM_OK)
        return err_set(
            e, st, "%.300s: the model was trained with %s = %s, which is not supported for training; set another value",
            c->model.init_from, key, there->text);
    TRY(config_set(c, there->option, &unsaid, there->text, e));
    if (!same || !was_default) add(l->taken, "%s=%s", key, there->text);
    return DDPM_OK;
}

static bool same_blocks(const unet_config *a, const unet_config *b)
{
    if (a->n_block != b->n_block) return false;
    for (int i = 0; i < a->n_block; i++)
        if (a->block[i].out_channels != b->block[i].out_channels || a->block[i].down != b->block[i].down ||
            a->block[i].up != b->block[i].up)
            return false;
    return true;
}

/* The network is the folder's: list the set options that differ from it, as they have no effect. */
static void list_idle(const ddpm_config *c, const network *there, lists *l)
{
    const network requested = recipe_network(
        c, (image_shape){there->unet.sample_size_h, there->unet.sample_size_w, there->unet.in_channels, -1});
    const unet_config *a = &requested.unet, *b = &there->unet;
    const bool same_type = recipe_to_class_type(c->model.class_embed_type) == b->class_embed_type;
    const bool unet = there->kind == NETWORK_UNET, blocks = unet && same_blocks(a, b);
    const struct {
        config_id option;
        bool same;
    } options[] = {{OPTION_model_kind, requested.kind == there->kind},
                   {OPTION_model_block_out_channels, blocks},
                   {OPTION_model_down_block_types, blocks},
                   {OPTION_model_up_block_types, blocks},
                   {OPTION_model_layers_per_block, unet && a->layers_per_block == b->layers_per_block},
                   {OPTION_model_attention_head_dim, unet && a->attention_head_dim == b->attention_head_dim},
                   {OPTION_model_norm_num_groups, unet && a->norm_num_groups == b->norm_num_groups},
                   {OPTION_model_norm_eps, unet && a->norm_eps == b->norm_eps},
                   {OPTION_model_downsample_padding, unet && a->downsample_padding == b->downsample_padding},
                   {OPTION_model_flip_sin_to_cos, unet && a->flip_sin_to_cos == b->flip_sin_to_cos},
                   {OPTION_model_freq_shift, unet && a->freq_shift == b->freq_shift},
                   {OPTION_model_add_attention, unet && a->add_attention == b->add_attention},
                   {OPTION_model_resnet_time_scale_shift, unet && a->time_scale_shift == b->time_scale_shift},
                   {OPTION_model_center_input_sample, unet && a->center_input_sample == b->center_input_sample},
                   {OPTION_model_class_embed_type, unet && same_type}};
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (is_set(c, options[i].option) && !options[i].same) add(l->idle, "%s", config_options[options[i].option].key);
}

/* Models that can be sampled but not trained. */
static ddpm_status check_trainable(const network *net, const scheduler_config *s, const char *folder, err *e)
{
    if (process_of(s) == PROCESS_CONSISTENCY)
        return err_set(e, DDPM_EINVAL, "%.300s: a consistency model; its training is not supported", folder);
    if (s->use_flow_sigmas)
        return err_set(
            e, DDPM_EINVAL,
            "%.300s: its %s samples a flow by timesteps of another process (use_flow_sigmas); a flow is trained "
            "with FlowMatchEulerDiscreteScheduler, whose shift is this one's flow_shift = %g: name that class in "
            "a copy of the folder",
            folder, scheduler_class_name(s->type), s->flow_shift);
    if (s->n_trained_betas > 0)
        return err_set(e, DDPM_EINVAL,
                       "%.300s: its scheduler lists its betas (trained_betas); only the schedules of "
                       "diffusion.beta_schedule can be trained",
                       folder);
    return DDPM_OK;
}

/* A network with a second half of output channels for the variance is trained on by the process of betas alone. */
static ddpm_status check_variance_channels(const ddpm_config *c, const network *net, const char *folder, err *e)
{
    const config_diffusion_parameterization process = c->diffusion.parameterization;
    const bool halves = net->kind == NETWORK_UNET && net->unet.out_channels == 2 * net->unet.in_channels;
    if (!halves || !is_set(c, OPTION_diffusion_parameterization) || process == DIFFUSION_PARAMETERIZATION_DDPM)
        return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "%.300s: half of its %d output channels are for a learned variance, which "
                   "diffusion.parameterization=%s does not have; begin with another model, or leave "
                   "diffusion.parameterization out",
                   folder, net->unet.out_channels, config_word_name(OPTION_diffusion_parameterization, (int)process));
}

ddpm_status init_from_take(ddpm_config *c, network *net, scheduler_config *scheduler, notes *remarks, err *e)
{
    const char *folder = c->model.init_from;
    said there[SAID];
    lists l = {"", "", ""};
    TRY(model_read_configs(folder, net, scheduler, remarks, e));
    TRY(check_trainable(net, scheduler, folder, e));
    read_folder(net, scheduler, there);
    const bool other = is_set(c, OPTION_diffusion_parameterization) &&
                       c->diffusion.parameterization != recipe_from_process(process_of(scheduler));
    TRY(check_variance_channels(c, net, folder, e));
    for (int i = 0; i < SAID; i++)
        if (!other || !describes_process(there[i].option)) TRY(take_option(c, &there[i], &l, e));
    list_idle(c, net, &l);
    if (l.taken[0]) notes_add(remarks, "options taken from %.200s: %s", folder, l.taken);
    if (l.kept[0]) notes_add(remarks, "options that differ from those of %.200s: %s", folder, l.kept);
    if (l.idle[0])
        notes_add(remarks, "options that have no effect, because the network is that of %.200s: %s", folder, l.idle);
    err why = {0};
    const ddpm_status st = config_check(c, &why);
    if (st == DDPM_OK) return DDPM_OK;
    return err_set(e, st, "%s (options that are not set are those of %.200s)", why.text, folder);
}
