#include "io/scheduler_config.h"
#include "base/mem.h"
#include "base/file.h"
#include "io/json_in.h"
#include "io/json_out.h"
#include "io/scheduler_keys.h"
#include "io/unet_config.h"

#include <math.h>
#include <string.h>

/* ---- reading ------------------------------------------------------------------------------------ */

static int count_words(const char *const *words)
{
    int n = 0;
    while (words[n]) n++;
    return n;
}

/* The key, or if it is absent its name in diffusers' first releases. */
static const char *present(json_in *j, const char *name)
{
    static const char *const first[][2] = {{"num_train_timesteps", "timesteps"},
                                           {"clip_sample", "clip_predicted_image"}};
    for (int i = 0; i < 2; i++)
        if (!strcmp(name, first[i][0]) && !json_in_get(j, name) && json_in_get(j, first[i][1])) return first[i][1];
    return name;
}

static void read_betas(json_in *j, const scheduler_key *k, scheduler_config *c)
{
    const json_t *list = json_in_get(j, k->name);
    if (!list || json_is_null(list)) return;
    const size_t n = json_array_size(list);
    if (n < 1 || n > SCHEDULER_MAX_TRAINED || n != (size_t)c->num_train_timesteps) {
        json_in_fail(j, "trained_betas must be null or a list of num_train_timesteps = %d numbers, at most %d",
                     c->num_train_timesteps, SCHEDULER_MAX_TRAINED);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        const double beta = json_is_number(v) ? json_number_value(v) : -1;
        if (!(beta > 0 && beta < 1)) {
            json_in_fail(j, "trained_betas: number %zu is not in (0, 1)", i + 1);
            return;
        }
        c->trained_betas[i] = beta;
    }
    c->n_trained_betas = (int)n;
}

static void read_steps(json_in *j, const scheduler_key *k, uint64_t *bits)
{
    const json_t *list = json_in_get(j, k->name);
    if (!list) return;
    if (!json_is_array(list)) json_in_fail(j, "%s must be a list of step numbers", k->name);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        const json_int_t step = json_is_integer(v) ? json_integer_value(v) : -1;
        if (step < 0 || step > 63) {
            json_in_fail(j, "%s: number %zu is not in [0, 63]", k->name, i + 1);
            return;
        }
        *bits |= UINT64_C(1) << step;
    }
}

static void read_fixed(json_in *j, const scheduler_key *k)
{
    const json_t *v = json_in_get(j, k->name);
    const bool word = v && json_is_string(v) && k->fixed && !strcmp(json_string_value(v), k->fixed);
    const bool number = v && json_is_number(v) && !k->fixed && json_number_value(v) == k->value;
    if (!v || word || number) return;
    if (k->fixed)
        json_in_fail(j, "%s is not supported unless it is \"%s\"", k->name, k->fixed);
    else
        json_in_fail(j, "%s is not supported unless it is %g", k->name, k->value);
}

static void read_own(json_in *j, const scheduler_key *k, const scheduler_config *c)
{
    const json_t *v = json_in_get(j, k->name);
    if (v && json_is_string(v) && !strcmp(json_string_value(v), k->fixed)) return;
    json_in_fail(j, "%s is supported as this program writes it alone, with %s \"%s\"", scheduler_class_name(c->type),
                 k->name, k->fixed);
}

static void read_key(json_in *j, const scheduler_key *k, scheduler_config *c)
{
    void *at = (char *)c + k->offset;
    const char *name = present(j, k->name);
    switch (k->type) {
    case KEY_INT: *(int *)at = json_in_int(j, name, *(int *)at, (int)k->min, (int)k->max); return;
    case KEY_REAL: *(double *)at = json_in_real(j, name, *(double *)at, k->min, k->max); return;
    case KEY_BOOL: *(bool *)at = json_in_bool(j, name, *(bool *)at); return;
    case KEY_WORD: *(int *)at = json_in_choice(j, name, *(int *)at, k->words, count_words(k->words)); return;
    case KEY_BETAS: read_betas(j, k, c); return;
    case KEY_SIGMAS:
        if (!json_in_bool(j, name, false)) return;
        if (c->sigmas) json_in_fail(j, "%s and use_%s_sigmas are both true", name, scheduler_sigmas_name(c->sigmas));
        c->sigmas = (scheduler_sigmas)k->value;
        return;
    case KEY_INFINITE:
        if (!json_in_null(j, name)) *(double *)at = json_in_real(j, name, -INFINITY, -1e6, 1e6);
        return;
    case KEY_STEPS: read_steps(j, k, at); return;
    case KEY_NULL:
        if (!json_in_null(j, name)) json_in_fail(j, "%s is not supported; it must be null", name);
        return;
    case KEY_FALSE:
        if (json_in_bool(j, name, false)) json_in_fail(j, "%s is not supported; it must be false", name);
        return;
    case KEY_FIXED: read_fixed(j, k); return;
    case KEY_OWN: read_own(j, k, c); return;
    }
}

/* Keys that other classes have, in files that were written by a scheduler made from_config() of another class: without
 * effect, as in diffusers.  DDPM's class refuses set_alpha_to_one = false, which would change its last step. */
static void read_foreign(json_in *j, const scheduler_config *c)
{
    if (scheduler_is(c, DDPM) && !json_in_bool(j, "set_alpha_to_one", true))
        json_in_fail(j, "set_alpha_to_one = false is not supported by %s; it must be true",
                     scheduler_class_name(c->type));
    for (int i = 0; i < scheduler_key_count; i++)
        if (!scheduler_is(c, scheduler_keys[i].classes)) (void)json_in_get(j, scheduler_keys[i].name);
}

static void check_values(json_in *j, const scheduler_config *c)
{
    if (c->n_trained_betas == 0 && (c->beta_start <= 0.0 || c->beta_end < c->beta_start))
        json_in_fail(j, "beta_start = %g and beta_end = %g: must satisfy 0 < beta_start <= beta_end < 1", c->beta_start,
                     c->beta_end);
    if (scheduler_is(c, EDM_FAMILY | CM | SDE_VE) && c->sigma_min >= c->sigma_max)
        json_in_fail(j, "sigma_min = %g is not below sigma_max = %g", c->sigma_min, c->sigma_max);
    const bool of_betas = scheduler_is(c, WITH_BETAS) && !c->use_flow_sigmas, edm = scheduler_is(c, EDM_FAMILY);
    const scheduler_prediction predicts = c->prediction_type;
    if (edm && predicts != SCHEDULER_EPSILON && predicts != SCHEDULER_V_PREDICTION)
        json_in_fail(j, "prediction_type = \"%s\": %s needs epsilon or v_prediction",
                     scheduler_prediction_name(predicts), scheduler_class_name(c->type));
    if (of_betas && predicts == SCHEDULER_FLOW)
        json_in_fail(j, "prediction_type = \"flow_prediction\" needs use_flow_sigmas = true, or another class than %s",
                     scheduler_class_name(c->type));
    if (scheduler_is(c, SDE_VP) && c->beta_max < c->beta_min)
        json_in_fail(j, "beta_min = %g is above beta_max = %g", c->beta_min, c->beta_max);
    const double sum = 0.5 * (c->beta_min + c->beta_max), most = 1e6; /* as config.c's limit of training */
    if (scheduler_is(c, SDE_VP) && sum > log1p(most * most) * (1 + 1e-12))
        json_in_fail(j, "beta_min = %g and beta_max = %g: their mean is above %.1f, which makes sigma larger than %g",
                     c->beta_min, c->beta_max, log1p(most * most), most);
    if (c->steps_offset >= c->num_train_timesteps)
        json_in_fail(j, "steps_offset = %d is not below num_train_timesteps = %d", c->steps_offset,
                     c->num_train_timesteps);
}

static ddpm_status read_all(json_in *j, const scheduler_class *as, scheduler_config *c, notes *n)
{
    const int type =
        as ? (int)*as : json_in_choice(j, "_class_name", 0, scheduler_class_names, count_words(scheduler_class_names));
    *c = scheduler_config_of(type < SCHEDULER_CLASSES ? (scheduler_class)type : SCHEDULER_CLASS_DDPM);
    const bool epsilon = json_in_bool(j, "predict_epsilon", true);
    if (!epsilon) c->prediction_type = SCHEDULER_SAMPLE;
    for (int i = 0; i < scheduler_key_count; i++) /* the betas need T */
        if (scheduler_is(c, scheduler_keys[i].classes)) read_key(j, &scheduler_keys[i], c);
    read_foreign(j, c);
    check_values(j, c);
    return json_in_close(j, n);
}

/* Python writes -Infinity, which JSON does not have: null, of the same length. */
static void replace_infinities(char *text)
{
    static const char word[] = "-Infinity", null[] = "null     ";
    for (char *at = strstr(text, word); at; at = strstr(at, word)) memcpy(at, null, strlen(null));
}

static ddpm_status parse(const char *text, size_t size, const char *where, const scheduler_class *as,
                         scheduler_config *c, notes *n, err *e)
{
    char *copy;
    TRY(mem_array(&copy, size + 1, 1, "scheduler config", e));
    memcpy(copy, text, size);
    copy[size] = '\0';
    replace_infinities(copy);
    json_in j = json_in_text(copy, size, where, e);
    mem_free(copy);
    return read_all(&j, as, c, n);
}

ddpm_status scheduler_config_parse(const char *text, size_t size, const char *where, scheduler_config *c, notes *n,
                                   err *e)
{
    return parse(text, size, where, NULL, c, n, e);
}

ddpm_status scheduler_config_read(const char *path, const scheduler_class *as, scheduler_config *c, notes *n, err *e)
{
    char *text;
    size_t size;
    TRY(file_read(path, JSON_IN_MAX_BYTES, &text, &size, e));
    const ddpm_status st = parse(text, size, path, as, c, n, e);
    mem_free(text);
    return st;
}

/* ---- writing ------------------------------------------------------------------------------------ */

static void write_betas(json_out *j, const scheduler_key *k, const scheduler_config *c)
{
    if (c->n_trained_betas == 0) {
        json_out_text(j, k->name, NULL);
        return;
    }
    json_out_open(j, k->name, '[');
    for (int i = 0; i < c->n_trained_betas; i++) json_out_real(j, NULL, c->trained_betas[i]);
    json_out_close(j, ']');
}

static void write_steps(json_out *j, const scheduler_key *k, uint64_t bits)
{
    json_out_open(j, k->name, '[');
    for (int i = 0; i < 64; i++)
        if (bits >> i & 1) json_out_int(j, NULL, i);
    json_out_close(j, ']');
}

static void write_number(json_out *j, const char *name, double v)
{
    if (v == rint(v))
        json_out_int(j, name, (int64_t)v);
    else
        json_out_real(j, name, v);
}

static void write_key(json_out *j, const scheduler_key *k, const scheduler_config *c)
{
    const void *at = (const char *)c + k->offset;
    switch (k->type) {
    case KEY_INT: json_out_int(j, k->name, *(const int *)at); return;
    case KEY_REAL: json_out_real(j, k->name, *(const double *)at); return;
    case KEY_BOOL: json_out_bool(j, k->name, *(const bool *)at); return;
    case KEY_WORD: json_out_text(j, k->name, scheduler_key_word(k, *(const int *)at)); return;
    case KEY_BETAS: write_betas(j, k, c); return;
    case KEY_SIGMAS: json_out_bool(j, k->name, c->sigmas == (scheduler_sigmas)k->value); return;
    case KEY_INFINITE: json_out_real_or_infinity(j, k->name, *(const double *)at); return;
    case KEY_STEPS: write_steps(j, k, *(const uint64_t *)at); return;
    case KEY_NULL: json_out_text(j, k->name, NULL); return;
    case KEY_FALSE: json_out_bool(j, k->name, false); return;
    case KEY_OWN:
    case KEY_FIXED: k->fixed ? json_out_text(j, k->name, k->fixed) : write_number(j, k->name, k->value); return;
    }
}

/* The class that names the process of a network sampled by one of EDM's. */
static unsigned process_class(const scheduler_config *c)
{
    return c->precond == SCHEDULER_PRECOND_VP ? SDE_VP : c->precond == SCHEDULER_PRECOND_VE ? SDE_VE : 0;
}

void scheduler_config_put(json_out *o, const scheduler_config *c)
{
    json_out_text(o, "scheduler", scheduler_class_name(c->type));
    for (int i = 0; i < scheduler_key_count; i++) {
        if (!scheduler_is(c, scheduler_keys[i].classes) && !(process_class(c) & scheduler_keys[i].classes)) continue;
        if (scheduler_keys[i].type == KEY_INFINITE && isinf(c->lambda_min_clipped))
            json_out_text(o, scheduler_keys[i].name, NULL);
        else
            write_key(o, &scheduler_keys[i], c);
    }
}

ddpm_status scheduler_config_write(const scheduler_config *c, const char *path, err *e)
{
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_text(&j, "_class_name", scheduler_class_name(c->type));
    json_out_text(&j, "_diffusers_version", DIFFUSERS_VERSION);
    for (int i = 0; i < scheduler_key_count; i++)
        if (scheduler_is(c, scheduler_keys[i].classes)) write_key(&j, &scheduler_keys[i], c);
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}
