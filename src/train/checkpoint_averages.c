#include "train/checkpoint_averages.h"
#include "diffusion/power_average.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

average_names averages_name(const ema_rule rules[EMA_MOST])
{
    average_names names = {.n = ema_count(rules)};
    for (int k = 0; k < names.n; k++) {
        const ema_rule *r = &rules[k];
        char *name = names.name[k];
        if (r->kind == EMA_HALFLIFE)
            (void)snprintf(name, AVERAGE_NAME, "halflife_kimg=%.9g", r->halflife / 1000);
        else if (r->kind == EMA_POWER)
            (void)snprintf(name, AVERAGE_NAME, "sigma_rel=%.9g", power_average_sigma(r->gamma));
        else
            (void)snprintf(name, AVERAGE_NAME, "decay=%.9g", r->decay);
    }
    return names;
}

void averages_put(json_out *j, const average_names *names)
{
    if (names->n == 0) return;
    json_out_open(j, "averages", '[');
    for (int k = 0; k < names->n; k++) json_out_text(j, NULL, names->name[k]);
    json_out_close(j, ']');
}

void averages_get(json_in *j, average_names *names)
{
    const json_t *list = json_in_get(j, "averages");
    *names = (average_names){.n = 0};
    for (size_t k = 0; k < json_array_size(list); k++) {
        const char *name = json_string_value(json_array_get(list, k));
        if (!name || k >= EMA_MOST || strlen(name) >= AVERAGE_NAME) {
            json_in_fail(j, "averages must be a list of at most %d names", EMA_MOST);
            return;
        }
        (void)snprintf(names->name[names->n++], AVERAGE_NAME, "%s", name);
    }
}

static ddpm_status file_of(char *out, const char *dir, int k, err *e)
{
    char name[64];
    if (k == 0) return path_join(out, dir, "unet/diffusion_pytorch_model.safetensors", e);
    (void)snprintf(name, sizeof name, "training/ema_%d.safetensors", k);
    return path_join(out, dir, name, e);
}

ddpm_status averages_save(const char *dir, const model *m, err *e)
{
    char path[PATH_CAP];
    for (int k = 1; k < params_averages(m->store); k++) {
        TRY(file_of(path, dir, k, e));
        TRY(params_save(m->store, params_average(k), path, e));
    }
    return DDPM_OK;
}

static ddpm_status read_names(const char *dir, average_names *names, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, dir, CHECKPOINT_STATE, e));
    json_in j = json_in_file(path, e);
    averages_get(&j, names);
    return json_in_close(&j, NULL);
}

/* The number of the average of this name; -1: there is none. */
static int place_of(const average_names *names, const char *name)
{
    for (int k = 0; k < names->n; k++)
        if (!strcmp(names->name[k], name)) return k;
    return -1;
}

ddpm_status averages_restore(const char *dir, const average_names *now, model *m, err *e)
{
    average_names there;
    char path[PATH_CAP];
    TRY(read_names(dir, &there, e));
    for (int k = 0; k < now->n; k++) {
        const int from = place_of(&there, now->name[k]);
        TRY(path_join(path, dir, CHECKPOINT_RAW_WEIGHTS, e));
        if (from >= 0 || k == 0 || !path_exists(path)) TRY(file_of(path, dir, from >= 0 ? from : 0, e));
        TRY(params_load(m->store, params_average(k), path, NULL, e));
    }
    return DDPM_OK;
}

static ddpm_status no_such_weights(const char *dir, const char *weights, const average_names *there, err *e)
{
    char list[4 * (AVERAGE_NAME + 12)] = "";
    for (int k = 1; k < there->n; k++) {
        const size_t used = strlen(list);
        (void)snprintf(list + used, sizeof list - used, ", ema_%d (%s)", k, there->name[k]);
    }
    return err_set(e, DDPM_EINVAL, "weights=%.60s: %s has no such weights; there are ema%s%s%s and raw%s", weights, dir,
                   there->n ? " (" : "", there->n ? there->name[0] : "", there->n ? ")" : "", list);
}

ddpm_status averages_find(const char *dir, const char *weights, char *out, err *e)
{
    char state[PATH_CAP];
    average_names there = {.n = 0};
    int k = -1;
    out[0] = '\0';
    if (!strcmp(weights, "ema")) return DDPM_OK;
    TRY(path_join(state, dir, CHECKPOINT_STATE, e));
    if (!path_exists(state))
        return err_set(e, DDPM_EINVAL, "%s: not a checkpoint of a training run: use weights=ema", dir);
    TRY(read_names(dir, &there, e));
    if (!strcmp(weights, "raw")) {
        TRY(path_join(out, dir, CHECKPOINT_RAW_WEIGHTS, e));
        if (!path_exists(out)) out[0] = '\0'; /* a run without averages has only these */
        return DDPM_OK;
    }
    if (!strncmp(weights, "ema_", 4) && weights[4] >= '1' && weights[4] <= '3' && !weights[5]) k = weights[4] - '0';
    if (k < 0 || k >= there.n) k = place_of(&there, weights);
    if (k < 0) return no_such_weights(dir, weights, &there, e);
    return k == 0 ? DDPM_OK : file_of(out, dir, k, e);
}
