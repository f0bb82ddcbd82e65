#include "train/checkpoint.h"
#include "base/mem.h"
#include "io/atomic_dir.h"
#include "io/checkpoint_dir.h"
#include "io/json_in.h"
#include "io/json_out.h"
#include "io/pipeline.h"
#include "train/checkpoint_averages.h"
#include "train/checkpoint_losses.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FORMAT = 1 };

static const struct {
    arena_kind arena;
    const char *file;
} moments[] = {{ARENA_M, "training/exp_avg.safetensors"}, {ARENA_V, "training/exp_avg_sq.safetensors"}};

#define EMA_WEIGHTS "unet/diffusion_pytorch_model.safetensors"

static bool has_ema(const model *m) { return m->store->arena[ARENA_EMA] != NULL; }

static void write_levels(json_out *j, const char *key, const double level[TRAIN_LEVELS])
{
    json_out_open(j, key, '[');
    for (int k = 0; k < TRAIN_LEVELS; k++) json_out_real(j, NULL, level[k]);
    json_out_close(j, ']');
}

/* The sums for the next line of metrics.jsonl. */
static void write_interval(json_out *j, const train_state *s)
{
    json_out_real(j, "interval_loss", s->interval_loss);
    json_out_int(j, "interval_steps", (int64_t)s->interval_steps);
    write_levels(j, "level_error", s->level_error);
    write_levels(j, "level_images", s->level_images);
    json_out_real(j, "interval_vb", s->interval_vb);
    json_out_real(j, "interval_vb_images", s->interval_vb_images);
}

static ddpm_status write_state(const char *dir, const train_state *s, const average_names *averages,
                               const checkpoint_facts *facts, err *e)
{
    char path[PATH_CAP], hash[20];
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, facts->dataset_hash);
    TRY(path_join(path, dir, CHECKPOINT_STATE, e));
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_int(&j, "format", FORMAT);
    json_out_int(&j, "seed", (int64_t)s->seed);
    json_out_int(&j, "sample", (int64_t)s->sample);
    json_out_int(&j, "step", (int64_t)s->step);
    json_out_int(&j, "updates", (int64_t)s->updates);
    json_out_int(&j, "skipped", (int64_t)s->skipped);
    json_out_real(&j, "beta1_pow", s->beta1_pow);
    json_out_real(&j, "beta2_pow", s->beta2_pow);
    write_interval(&j, s);
    averages_put(&j, averages);
    json_out_text(&j, "dataset", hash);
    json_out_text(&j, "machine", facts->machine);
    json_out_text(&j, "version", DDPM_VERSION);
    json_out_int(&j, "rollbacks", (int64_t)facts->rollbacks);
    json_out_int(&j, "rollback_end", (int64_t)facts->rollback_end);
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}

static ddpm_status write_config(const char *dir, const ddpm_config *config, err *e)
{
    char path[PATH_CAP], *text;
    size_t size;
    TRY(path_join(path, dir, "training/config.yaml", e));
    TRY(config_write(config, NULL, false, &text, &size, e));
    const ddpm_status st = file_write(path, text, size, false, e);
    mem_free(text);
    return st;
}

static ddpm_status write_all(const char *dir, const model *m, trainer *t, const train_state *state,
                             const ddpm_config *config, const checkpoint_facts *facts, err *e)
{
    const average_names averages = averages_name(trainer_averages(t));
    char path[PATH_CAP];
    TRY(model_save(m, has_ema(m) ? ARENA_EMA : ARENA_PARAM, dir, e));
    TRY(path_join(path, dir, "training", e));
    TRY(dir_make(path, e));
    if (has_ema(m)) {
        TRY(path_join(path, dir, CHECKPOINT_RAW_WEIGHTS, e));
        TRY(params_save(m->store, ARENA_PARAM, path, e));
    }
    TRY(averages_save(dir, m, e));
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        TRY(path_join(path, dir, moments[i].file, e));
        TRY(params_save(m->store, moments[i].arena, path, e));
    }
    TRY(losses_save(dir, t, e));
    TRY(write_state(dir, state, &averages, facts, e));
    TRY(write_config(dir, config, e));
    return checkpoint_seal(dir, e);
}

ddpm_status checkpoint_save(const char *ckpt_dir, const model *m, trainer *t, const ddpm_config *config,
                            const checkpoint_facts *facts, err *e)
{
    atomic_dir folder = {.path = ""};
    char name[CHECKPOINT_NAME_CAP];
    train_state state;
    TRY(trainer_state(t, &state, e));
    TRY(atomic_dir_begin(&folder, ckpt_dir, checkpoint_name(name, (int64_t)state.step), e));
    const ddpm_status st = write_all(folder.path, m, t, &state, config, facts, e);
    if (st != DDPM_OK) {
        atomic_dir_abort(&folder);
        return st;
    }
    return atomic_dir_commit(&folder, e);
}

static int64_t counter(json_in *j, const char *key)
{
    const json_t *v = json_in_get(j, key);
    if (json_is_integer(v) && json_integer_value(v) >= 0) return json_integer_value(v);
    json_in_fail(j, "%s must be a non-negative number", key);
    return 0;
}

/* A counter that checkpoints of older versions lack. */
static uint64_t later_counter(json_in *j, const char *key)
{
    return json_object_get(j->root, key) ? (uint64_t)counter(j, key) : 0;
}

static const char *text_of(json_in *j, const char *key)
{
    const char *text = json_string_value(json_in_get(j, key));
    return text ? text : "";
}

static double power(json_in *j, const char *key)
{
    const double v = json_in_real(j, key, -1, 0, 1);
    if (v < 0) json_in_fail(j, "%s is missing", key);
    return v;
}

static void read_levels(json_in *j, const char *key, double level[TRAIN_LEVELS])
{
    const json_t *list = json_in_get(j, key);
    if (!list) return; /* written before there were levels */
    for (size_t k = 0; k < TRAIN_LEVELS; k++) {
        const json_t *v = json_array_get(list, k);
        if (json_array_size(list) != TRAIN_LEVELS || !json_is_number(v) || !(json_number_value(v) >= 0)) {
            json_in_fail(j, "%s must be a list of %d non-negative numbers", key, TRAIN_LEVELS);
            return;
        }
        level[k] = json_number_value(v);
    }
}

static void read_interval(json_in *j, train_state *s)
{
    s->interval_loss = json_in_real(j, "interval_loss", 0, -1e300, 1e300);
    s->interval_steps = later_counter(j, "interval_steps");
    read_levels(j, "level_error", s->level_error);
    read_levels(j, "level_images", s->level_images);
    s->interval_vb = json_in_real(j, "interval_vb", 0, -1e300, 1e300);
    s->interval_vb_images = json_in_real(j, "interval_vb_images", 0, 0, 1e300);
}

ddpm_status checkpoint_read_state(const char *dir, train_state *s, checkpoint_facts *facts, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, dir, CHECKPOINT_STATE, e));
    json_in j = json_in_file(path, e);
    if (json_in_int(&j, "format", 0, 0, 1000) != FORMAT)
        json_in_fail(&j, "written by another version of this program (format is not %d)", FORMAT);
    *s = (train_state){.seed = (uint64_t)counter(&j, "seed"),
                       .sample = (uint64_t)counter(&j, "sample"),
                       .step = (uint64_t)counter(&j, "step"),
                       .updates = (uint64_t)counter(&j, "updates"),
                       .skipped = (uint64_t)counter(&j, "skipped"),
                       .beta1_pow = power(&j, "beta1_pow"),
                       .beta2_pow = power(&j, "beta2_pow")};
    read_interval(&j, s);
    facts->dataset_hash = strtoull(text_of(&j, "dataset"), NULL, 16);
    (void)snprintf(facts->machine, sizeof facts->machine, "%s", text_of(&j, "machine"));
    facts->rollbacks = later_counter(&j, "rollbacks");
    facts->rollback_end = later_counter(&j, "rollback_end");
    (void)text_of(&j, "version");
    return json_in_close(&j, NULL);
}

ddpm_status checkpoint_find(const char *path, char *out, notes *n, err *e)
{
    char inside[PATH_CAP];
    pipeline ignored;
    int64_t *steps;
    int count;
    if (!path_exists(path))
        return err_set(e, DDPM_ENOINPUT,
                       "resume: '%s': no such folder; give never, auto, or the folder of a checkpoint or run", path);
    TRY(path_join(inside, path, CHECKPOINT_STATE, e));
    if (path_exists(inside)) {
        (void)snprintf(out, PATH_CAP, "%s", path);
        return checkpoint_verify(path, e);
    }
    TRY(path_join(inside, path, "ckpt", e));
    const char *const places[] = {inside, path};
    for (int i = 0; i < 2; i++) {
        if (!path_is_dir(places[i])) continue;
        TRY(checkpoint_list(places[i], &steps, &count, e));
        mem_free(steps);
        if (count > 0) return checkpoint_newest_good(places[i], out, n, e);
    }
    if (pipeline_find(path, &ignored, NULL, NULL) == DDPM_OK)
        return err_set(
            e, DDPM_EDATA,
            "resume: '%s': a pipeline folder, not a checkpoint; start from its weights with model.init_from=", path);
    return err_set(e, DDPM_EDATA, "resume: '%s': neither a checkpoint (training/state.json) nor a run with checkpoints",
                   path);
}

ddpm_status checkpoint_restore(const char *dir, const train_state *state, model *m, trainer *t, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, dir, CHECKPOINT_RAW_WEIGHTS, e));
    const bool raw = path_exists(path);
    if (!raw) TRY(path_join(path, dir, EMA_WEIGHTS, e));
    TRY(params_load(m->store, ARENA_PARAM, path, NULL, e));
    const average_names averages = averages_name(trainer_averages(t));
    TRY(averages_restore(dir, &averages, m, e));
    for (size_t i = 0; i < sizeof moments / sizeof *moments; i++) {
        TRY(path_join(path, dir, moments[i].file, e));
        TRY(params_load(m->store, moments[i].arena, path, NULL, e));
    }
    TRY(losses_restore(dir, t, e));
    return trainer_restore(t, state, e);
}
