#include "config/config.h"

#include "config/config_value.h"
#include "config/lr_step_rules.h"
#include "config/nearest.h"

#include <assert.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const config_option config_options[CONFIG_OPTIONS] = {
#define ENTRY(key, field, type, initial, min, max, unit, help)                                                         \
    {key, CONFIG_TYPE_##type, initial, #min, #max, unit, help, offsetof(ddpm_config, field)},
#define ROOT(name, ...)         ENTRY(#name, name, __VA_ARGS__)
#define OPT(section, name, ...) ENTRY(#section "." #name, section.name, __VA_ARGS__)
#include "config/options.def"
};

const char *const *const config_option_words[CONFIG_OPTIONS] = {
#define WORDS_OF(option, ...) [OPTION_##option] = (const char *const[]){__VA_ARGS__ NULL},
#define WORD(constant, word)  [constant] = word,
#include "config/options.def"
};
/* Enum options are read and written through int pointers. */
#define WORDS_OF(option, ...) static_assert(sizeof(config_##option) == sizeof(int), #option);
#include "config/options.def"

const config_section config_sections[CONFIG_SECTIONS] = {
#define SECTION(name, title) {#name, title},
#include "config/options.def"
};

static void *field_of(ddpm_config *c, config_id option) { return (char *)c + config_options[option].offset; }

static const void *field_in(const ddpm_config *c, config_id option)
{
    return (const char *)c + config_options[option].offset;
}

/* ---- looking up ---------------------------------------------------------------------------------- */

/* Length of the section's name in a key: 5 for "train.batch", 0 for "seed". */
static int section_length(const char *key)
{
    const char *dot = strchr(key, '.');
    return dot ? (int)(dot - key) : 0;
}

int config_find(const char *key)
{
    for (int i = 0; i < CONFIG_OPTIONS; i++)
        if (strcmp(config_options[i].key, key) == 0) return i;
    return -1;
}

int config_find_renamed(const char *key, const char **renamed)
{
    static const struct {
        const char *key;
        config_id option;
        bool old;
    } others[] = {
#define RENAMED(key, option) {key, OPTION_##option, true},
#define ALSO(key, option)    {key, OPTION_##option, false},
#include "config/options.def"
    };
    *renamed = NULL;
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        if (strcmp(others[i].key, key) != 0) continue;
        if (others[i].old) *renamed = others[i].key;
        return (int)others[i].option;
    }
    return config_find(key);
}

int config_find_section(const char *name)
{
    for (int i = 0; i < CONFIG_SECTIONS; i++)
        if (strcmp(config_sections[i].name, name) == 0) return i;
    return -1;
}

int config_section_of(config_id option)
{
    char name[CONFIG_KEY];
    const char *key = config_options[option].key;
    (void)snprintf(name, sizeof name, "%.*s", section_length(key), key);
    return config_find_section(name);
}

int config_word_of(config_id option, const char *text)
{
    const char *const *words = config_option_words[option];
    for (int i = 0; words && words[i]; i++)
        if (strcmp(words[i], text) == 0) return i;
    return -1;
}

const char *config_word_name(config_id option, int constant) { return config_option_words[option][constant]; }

bool config_scope_has(const config_scope *scope, config_id option)
{
    if (!scope) return true;
    const char *key = config_options[option].key;
    const size_t section = (size_t)section_length(key), length = strlen(key);
    bool has = false;
    for (const char *w = scope->options; *w;) {
        const bool without = *w == '-';
        w += without;
        const size_t n = strcspn(w, " ");
        if ((n == length || (n == section && n > 0)) && memcmp(w, key, n) == 0) has = !without;
        w += n + (w[n] == ' ');
    }
    return has;
}

enum { NEAREST = 3, OTHER_SECTION = 3, SECTION_LEFT_OUT = 1 };

/* Distance between a key and an option's key.  An edit in the name counts twice one in the section, and the
 * section's share is at most OTHER_SECTION: "data.batch" is near "train.batch". */
static int key_distance(const char *key, const char *of)
{
    char section[CONFIG_KEY], section_of[CONFIG_KEY];
    const char *dot = strrchr(key, '.'), *dot_of = strchr(of, '.');
    const int name = 2 * text_distance(dot ? dot + 1 : key, dot_of ? dot_of + 1 : of);
    if (!dot) return name + (dot_of ? SECTION_LEFT_OUT : 0);
    if (!dot_of) return name + OTHER_SECTION;
    (void)snprintf(section, sizeof section, "%.*s", (int)(dot - key), key);
    (void)snprintf(section_of, sizeof section_of, "%.*s", (int)(dot_of - of), of);
    const int d = text_distance(section, section_of);
    return name + (d < OTHER_SECTION ? d : OTHER_SECTION);
}

typedef struct ranking {
    const char *name[NEAREST];
    int distance[NEAREST];
} ranking;

static void rank(ranking *r, const char *key, const char *name)
{
    int d = key_distance(key, name);
    for (int k = 0; k < NEAREST; k++) { /* insertion: the displaced entry moves down */
        if (d >= r->distance[k]) continue;
        const ranking was = *r;
        r->distance[k] = d, r->name[k] = name;
        d = was.distance[k], name = was.name[k];
    }
}

ddpm_status config_refuse_key(const ddpm_config *c, const config_place *at, const config_scope *scope, const char *key,
                              err *e)
{
    ranking best = {{"", "", ""}, {INT_MAX, INT_MAX, INT_MAX}};
    for (int i = 0; i < CONFIG_OPTIONS; i++)
        if (config_scope_has(scope, (config_id)i)) rank(&best, key, config_options[i].key);
    const bool may_be_section = at->source == CONFIG_FILE && !strchr(key, '.');
    for (int i = 0; i < CONFIG_SECTIONS && may_be_section; i++) rank(&best, key, config_sections[i].name);
    return config_refuse(c, at, e, "%.60s: no such option; nearest: %s, %s, %s", key, best.name[0], best.name[1],
                         best.name[2]);
}

ddpm_status config_refuse(const ddpm_config *c, const config_place *at, err *e, const char *fmt, ...)
{
    char text[400];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (at->source == CONFIG_FILE)
        return err_set(e, DDPM_EINVAL, "%s:%d:%d: %s", c->file[at->file], at->line, at->column, text);
    return err_set(e, DDPM_EINVAL, "command line: %s", text);
}

/* ---- setting ------------------------------------------------------------------------------------- */

void config_defaults(ddpm_config *c)
{
    char why[VALUE_WHY];
    memset(c, 0, sizeof *c);
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const config_option *o = &config_options[i];
        const bool good = value_read(field_of(c, (config_id)i), o, o->initial, why);
        assert(good); /* else options.def has an invalid default, which every test finds */
        (void)good;
    }
}

/* Set from `text`, or from `items` if `text` is NULL. */
static ddpm_status set(ddpm_config *c, config_id option, const config_place *at, const char *text,
                       const config_items *items, err *e)
{
    const config_option *o = &config_options[option];
    union {
        int64_t integer;
        double real;
        config_ints ints;
        config_words words;
        int word;
        char path[PATH_CAP];
    } outranked; /* the value is only checked, into this copy */
    char why[VALUE_WHY];
    const bool weaker = at->source < c->origin[option].source;
    void *field = weaker ? &outranked : field_of(c, option);
    const bool good = text ? value_read(field, o, text, why) : value_read_items(field, o, items, why);
    if (!good) return config_refuse(c, at, e, "%s: %s", o->key, why);
    if (!weaker) c->origin[option] = *at;
    return DDPM_OK;
}

ddpm_status config_set(ddpm_config *c, config_id option, const config_place *at, const char *text, err *e)
{
    return set(c, option, at, text, NULL, e);
}

ddpm_status config_set_items(ddpm_config *c, config_id option, const config_place *at, const config_items *items,
                             err *e)
{
    return set(c, option, at, NULL, items, e);
}

bool config_is_assignment(const char *text)
{
    const size_t key = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-");
    return text[key] == '=';
}

ddpm_status config_assign(ddpm_config *c, const config_scope *scope, const char *argument, err *e)
{
    const config_place at = {.source = CONFIG_ARGUMENT};
    const char *equals = strchr(argument, '=');
    char key[CONFIG_KEY], full[2 * CONFIG_KEY];
    if (!equals || equals == argument)
        return config_refuse(c, &at, e, "'%.60s' is not of the form key=value", argument);
    /* An overlong key is unknown, truncated or not. */
    (void)snprintf(key, sizeof key, "%.*s", (int)strcspn(argument, "="), argument);
    (void)snprintf(full, sizeof full, "%.31s.%s", scope ? scope->command : "", key);
    const char *renamed;
    int option = config_find_renamed(full, &renamed);
    if (option < 0) option = config_find_renamed(key, &renamed);
    if (option < 0) return config_refuse_key(c, &at, scope, key, e);
    if (!config_scope_has(scope, (config_id)option))
        return config_refuse(c, &at, e, "%s: not an option of 'ddpm %s'; 'ddpm %s --help' lists those", key,
                             scope->command, scope->command);
    TRY(config_set(c, (config_id)option, &at, equals + 1, e));
    if (renamed && !c->renamed) c->renamed = renamed;
    return DDPM_OK;
}

bool config_same(const ddpm_config *a, const ddpm_config *b, config_id option)
{
    char in_a[VALUE_TEXT], in_b[VALUE_TEXT];
    value_write(field_in(a, option), &config_options[option], in_a);
    value_write(field_in(b, option), &config_options[option], in_b);
    return strcmp(in_a, in_b) == 0;
}

bool config_is_chosen(const ddpm_config *c, config_id option)
{
    ddpm_config plain;
    if (c->origin[option].source == CONFIG_DEFAULT) return false;
    config_defaults(&plain);
    return !config_same(c, &plain, option);
}

/* ---- rules between options ----------------------------------------------------------------------- */

static ddpm_status check_images(const ddpm_config *c, err *e)
{
    enum { SIDE_MIN = 8 };
    if (c->data.channels == 2)
        return err_set(e, DDPM_EINVAL, "data.channels=2: must be 1 (grey), 3 (colour) or 0 (as stored)");
    if (c->data.resolution > 0 && c->data.resolution < SIDE_MIN)
        return err_set(e, DDPM_EINVAL, "data.resolution=%d: must be %d to %s, or 0 (as stored)", c->data.resolution,
                       SIDE_MIN, config_options[OPTION_data_resolution].max);
    return DDPM_OK;
}

static ddpm_status check_unet(const ddpm_config *c, err *e)
{
    const config_ints *widths = &c->model.block_out_channels;
    const int levels = widths->count, halved = 1 << (levels - 1);
    if (c->model.down_block_types.count != levels || c->model.up_block_types.count != levels)
        return err_set(e, DDPM_EINVAL,
                       "model.block_out_channels has %d levels, model.down_block_types %d, model.up_block_types %d: "
                       "set all three to the same number of levels",
                       levels, c->model.down_block_types.count, c->model.up_block_types.count);
    for (int i = 0; i < levels; i++)
        if (widths->item[i] % c->model.norm_num_groups)
            return err_set(e, DDPM_EINVAL,
                           "model.block_out_channels: %d channels are not divisible by model.norm_num_groups=%d",
                           widths->item[i], c->model.norm_num_groups);
    if (c->data.resolution % halved)
        return err_set(e, DDPM_EINVAL,
                       "data.resolution=%d cannot be halved %d times, as the %d levels of the model require: "
                       "use a multiple of %d",
                       c->data.resolution, levels - 1, levels, halved);
    return DDPM_OK;
}

static ddpm_status check_interval(const config_reals *r, err *e)
{
    if (r->count == 2 && r->item[0] < r->item[1]) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "sample.guidance_interval: must be two noise levels [LOW, HIGH], the lower one first");
}

/* sigma at t = 1 is sqrt(exp(beta_d / 2 + beta_min) - 1); io/scheduler_config.c has the same limit. */
static ddpm_status check_vp(const ddpm_config *c, err *e)
{
    const double most = 1e6, sum = 0.5 * c->diffusion.beta_d + c->diffusion.beta_min;
    if (c->diffusion.parameterization != DIFFUSION_PARAMETERIZATION_VP || sum <= log1p(most * most)) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "diffusion.beta_d=%g and diffusion.beta_min=%g: beta_d / 2 + beta_min is %g, but at most %.1f keeps "
                   "the largest sigma below %g; lower them",
                   c->diffusion.beta_d, c->diffusion.beta_min, sum, log1p(most * most), most);
}

/* VE's range of sigma, in Karras et al. 2022 (arXiv:2206.00364), table 1. */
void config_settle(ddpm_config *c)
{
    if (c->diffusion.parameterization != DIFFUSION_PARAMETERIZATION_VE) return;
    if (c->origin[OPTION_diffusion_sigma_min].source == CONFIG_DEFAULT) c->diffusion.sigma_min = 0.02;
    if (c->origin[OPTION_diffusion_sigma_max].source == CONFIG_DEFAULT) c->diffusion.sigma_max = 100;
}

static const char *said(config_id option, int word) { return config_word_name(option, word); }

/* What the network can predict, and which losses there are, depends on the process. */
static ddpm_status check_process(const ddpm_config *c, err *e)
{
    const config_diffusion_predict predict = c->diffusion.predict;
    const config_diffusion_parameterization process = c->diffusion.parameterization;
    const bool edm = process == DIFFUSION_PARAMETERIZATION_EDM, eps = predict == DIFFUSION_PREDICT_EPS;
    const bool has_range = edm || process == DIFFUSION_PARAMETERIZATION_VE;
    if (c->diffusion.beta_start > c->diffusion.beta_end)
        return err_set(e, DDPM_EINVAL, "diffusion.beta_start=%g is above diffusion.beta_end=%g",
                       c->diffusion.beta_start, c->diffusion.beta_end);
    if (has_range && !(c->diffusion.sigma_min < c->diffusion.sigma_max))
        return err_set(e, DDPM_EINVAL, "diffusion.sigma_min=%g is not below diffusion.sigma_max=%g",
                       c->diffusion.sigma_min, c->diffusion.sigma_max);
    if (process != DIFFUSION_PARAMETERIZATION_DDPM && !eps && !(edm && predict == DIFFUSION_PREDICT_V))
        return err_set(e, DDPM_EINVAL, "diffusion.predict=%s: with diffusion.parameterization=%s it must be eps%s",
                       said(OPTION_diffusion_predict, predict), said(OPTION_diffusion_parameterization, process),
                       edm                                          ? " or v"
                       : process == DIFFUSION_PARAMETERIZATION_FLOW ? ", which then means eps - x0"
                                                                    : "");
    if (edm && c->train.loss_weighting != TRAIN_LOSS_WEIGHTING_NONE)
        return err_set(e, DDPM_EINVAL,
                       "train.loss_weighting=%s: diffusion.parameterization=edm has a weight of its own",
                       said(OPTION_train_loss_weighting, c->train.loss_weighting));
    if (process == DIFFUSION_PARAMETERIZATION_DDPM && c->diffusion.rescale_betas_zero_snr &&
        (eps || predict == DIFFUSION_PREDICT_MU))
        return err_set(
            e, DDPM_EINVAL,
            "diffusion.rescale_betas_zero_snr=true needs diffusion.predict=v or x0, not %s: the last timestep "
            "is noise alone",
            said(OPTION_diffusion_predict, predict));
    return check_vp(c, e);
}

/* The variance is learned by the variational bound, whose formulas hold for x_t of unit noise from betas. */
static ddpm_status check_variance(const ddpm_config *c, err *e)
{
    const config_diffusion_variance_type type = c->diffusion.variance_type;
    const bool learned = type == DIFFUSION_VARIANCE_TYPE_LEARNED_RANGE;
    const bool l2 = c->train.loss_type == TRAIN_LOSS_TYPE_L2,
               even = c->train.loss_weighting == TRAIN_LOSS_WEIGHTING_NONE;
    if (type == DIFFUSION_VARIANCE_TYPE_LEARNED)
        return err_set(
            e, DDPM_EINVAL,
            "diffusion.variance_type=learned: not for training, as diffusers takes the network's second half "
            "as the variance and others as its logarithm; set learned_range");
    if (learned && c->diffusion.parameterization != DIFFUSION_PARAMETERIZATION_DDPM)
        return err_set(e, DDPM_EINVAL,
                       "diffusion.variance_type=learned_range: a process of diffusion.parameterization=%s has no such "
                       "variance; set fixed_small",
                       said(OPTION_diffusion_parameterization, c->diffusion.parameterization));
    if (learned && (c->train.noise_offset > 0 || c->train.input_perturbation > 0))
        return err_set(e, DDPM_EINVAL,
                       "diffusion.variance_type=learned_range: the bound that trains it needs plain noise; set "
                       "train.noise_offset=0 and train.input_perturbation=0");
    if (c->train.use_kl && !learned)
        return err_set(e, DDPM_EINVAL, "train.use_kl=true needs diffusion.variance_type=learned_range, not %s",
                       said(OPTION_diffusion_variance_type, type));
    if (c->train.use_kl && (!l2 || !even))
        return err_set(e, DDPM_EINVAL, "train.use_kl=true: the variational bound is the loss; leave train.%s out",
                       l2 ? "loss_weighting" : "loss_type");
    return DDPM_OK;
}

static ddpm_status check_learning_rate(const ddpm_config *c, err *e)
{
    lr_step_rules rules;
    char why[120];
    const bool piecewise = c->train.lr_scheduler == TRAIN_LR_SCHEDULER_PIECEWISE_CONSTANT;
    if (c->train.lr_scheduler == TRAIN_LR_SCHEDULER_POLYNOMIAL && c->train.lr_end >= c->train.lr)
        return err_set(e, DDPM_EINVAL, "train.lr_end=%g is not below train.lr=%g, as polynomial requires",
                       c->train.lr_end, c->train.lr);
    if (piecewise && !c->train.lr_step_rules[0])
        return err_set(e, DDPM_EINVAL,
                       "train.lr_step_rules is empty: piecewise_constant needs pieces such as 1:10,0.1:20,0.01");
    if (c->train.lr_step_rules[0] && !lr_step_rules_read(c->train.lr_step_rules, &rules, why, sizeof why))
        return err_set(e, DDPM_EINVAL, "train.lr_step_rules: %s", why);
    return DDPM_OK;
}

/* A list whose default, 0, means none. */
static int list_count(const config_reals *r) { return r->count == 1 && r->item[0] == 0 ? 0 : r->count; }

static ddpm_status check_averages(const ddpm_config *c, err *e)
{
    enum { MOST = 4 };
    const config_reals *lists[] = {&c->ema.more, &c->ema.sigma_rel};
    const char *const keys[] = {"ema.more", "ema.sigma_rel"};
    int n = c->ema.decay > 0 || c->ema.halflife_kimg > 0;
    for (int k = 0; k < 2; k++) {
        n += list_count(lists[k]);
        for (int i = 0; i < list_count(lists[k]); i++)
            if (lists[k]->item[i] < 1e-3)
                return err_set(e, DDPM_EINVAL, "%s: %g is below 0.001", keys[k], lists[k]->item[i]);
    }
    if (n > MOST)
        return err_set(e, DDPM_EINVAL,
                       "ema.decay, ema.more and ema.sigma_rel ask for %d averages of the weights; at most %d are kept",
                       n, MOST);
    return DDPM_OK;
}

static ddpm_status check_weights(config_id option, const char *weights, err *e)
{
    static const char *const more[] = {"ema_1", "ema_2", "ema_3"};
    if (config_word_of(option, weights) >= 0 || strchr(weights, '=')) return DDPM_OK;
    for (int k = 0; k < 3; k++)
        if (!strcmp(weights, more[k])) return DDPM_OK;
    return err_set(e, DDPM_EINVAL,
                   "%s=%.60s: must be ema, raw, ema_1 to ema_3, or the name of an average, such as decay=0.999",
                   config_options[option].key, weights);
}

ddpm_status config_check(const ddpm_config *c, err *e)
{
    TRY(check_weights(OPTION_sample_weights, c->sample.weights, e));
    TRY(check_weights(OPTION_eval_weights, c->eval.weights, e));
    TRY(check_learning_rate(c, e));
    TRY(check_averages(c, e));
    TRY(check_interval(&c->sample.guidance_interval, e));
    TRY(check_images(c, e));
    if (c->model.kind == MODEL_KIND_UNET && !c->model.init_from[0]) TRY(check_unet(c, e));
    TRY(check_variance(c, e));
    return check_process(c, e);
}
