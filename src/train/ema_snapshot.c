#include "train/ema_snapshot.h"
#include "base/mem.h"
#include "diffusion/power_average.h"
#include "io/atomic_dir.h"
#include "io/checkpoint_dir.h"
#include "io/json_in.h"
#include "io/json_out.h"

#include <jansson.h>
#include <stdio.h>

enum { FORMAT = 1 };

#define FOLDER      "ema"
#define DESCRIPTION "snapshot.json"

static ddpm_status file_of(char *out, const char *dir, int k, err *e)
{
    char name[32];
    (void)snprintf(name, sizeof name, "ema_%d.safetensors", k);
    return path_join(out, dir, name, e);
}

static ddpm_status describe(const char *dir, const ema_rule *rules, const train_state *s, err *e)
{
    char path[PATH_CAP];
    TRY(path_join(path, dir, DESCRIPTION, e));
    json_out j = json_out_begin(false, e);
    json_out_open(&j, NULL, '{');
    json_out_int(&j, "format", FORMAT);
    json_out_int(&j, "step", (int64_t)s->step);
    json_out_int(&j, "images", (int64_t)s->sample);
    json_out_open(&j, "gamma", '[');
    for (int k = 0; k < ema_count(rules); k++)
        if (rules[k].kind == EMA_POWER) json_out_real(&j, NULL, rules[k].gamma);
    json_out_close(&j, ']');
    json_out_close(&j, '}');
    return json_out_finish_file(&j, path);
}

static ddpm_status write_all(const char *dir, const model *m, const ema_rule *rules, const train_state *s, err *e)
{
    char path[PATH_CAP];
    for (int k = 0, n = 0; k < ema_count(rules); k++) {
        if (rules[k].kind != EMA_POWER) continue;
        TRY(file_of(path, dir, n++, e));
        TRY(params_save_half(m->store, params_average(k), path, e));
    }
    return describe(dir, rules, s, e);
}

ddpm_status ema_snapshot_write(const char *run, const model *m, trainer *t, err *e)
{
    const ema_rule *rules = trainer_averages(t);
    atomic_dir folder = {.path = ""};
    char parent[PATH_CAP], name[CHECKPOINT_NAME_CAP];
    train_state state;
    int n = 0;
    for (int k = 0; k < ema_count(rules); k++) n += rules[k].kind == EMA_POWER;
    if (n == 0) return DDPM_OK;
    TRY(trainer_state(t, &state, e));
    TRY(path_join(parent, run, FOLDER, e));
    atomic_dir_sweep(parent, NULL);
    TRY(atomic_dir_begin(&folder, parent, checkpoint_name(name, (int64_t)state.step), e));
    const ddpm_status st = write_all(folder.path, m, rules, &state, e);
    if (st == DDPM_OK) return atomic_dir_commit(&folder, e);
    atomic_dir_abort(&folder);
    return st;
}

/* ---- synthesis ---- */

/* Averages of snapshots, with their files. */
typedef struct snapshots {
    int n, capacity;
    power_average *profile; /* [n]; t in images */
    char (*file)[PATH_CAP]; /* [n] */
    double *weight;         /* [n] */
    int64_t step;           /* the last one */
    double images;          /* at that step */
} snapshots;

static void snapshots_free(snapshots *s)
{
    mem_free(s->profile);
    mem_free(s->file);
    mem_free(s->weight);
}

static ddpm_status add_average(snapshots *s, const char *dir, int k, power_average profile, err *e)
{
    int also = s->capacity;
    TRY(mem_grow(&s->profile, &also, s->n + 1, sizeof *s->profile, "snapshots", e));
    TRY(mem_grow(&s->file, &s->capacity, s->n + 1, sizeof *s->file, "snapshots", e));
    TRY(file_of(s->file[s->n], dir, k, e));
    s->profile[s->n++] = profile;
    return DDPM_OK;
}

static ddpm_status add_snapshot(snapshots *s, const char *dir, int64_t at, err *e)
{
    char path[PATH_CAP];
    ddpm_status st = DDPM_OK;
    TRY(path_join(path, dir, DESCRIPTION, e));
    json_in j = json_in_file(path, e);
    if (json_in_int(&j, "format", 0, 0, 1000) != FORMAT)
        json_in_fail(&j, "written by another version of this program (format is not %d)", FORMAT);
    const double images = json_in_real(&j, "images", 0, 1, 1e18);
    const json_t *gamma = json_in_get(&j, "gamma");
    if (images == 0 || json_array_size(gamma) == 0) json_in_fail(&j, "images and gamma are missing");
    for (size_t k = 0; k < json_array_size(gamma) && j.st == DDPM_OK && st == DDPM_OK; k++) {
        const double g = json_number_value(json_array_get(gamma, k));
        if (!(g > 0 && g < 1e6)) json_in_fail(&j, "gamma must be positive numbers");
        if (j.st == DDPM_OK) st = add_average(s, dir, (int)k, (power_average){g, images}, e);
    }
    s->step = at, s->images = images;
    const ddpm_status closed = json_in_close(&j, NULL);
    return st != DDPM_OK ? st : closed;
}

static ddpm_status read_snapshots(const ema_request *q, snapshots *s, err *e)
{
    char parent[PATH_CAP], dir[PATH_CAP], name[CHECKPOINT_NAME_CAP];
    int64_t *steps = NULL;
    int n = 0;
    ddpm_status st = DDPM_OK;
    const int64_t last = q->at > 0 ? q->at : q->last;
    TRY(path_join(parent, q->run, FOLDER, e));
    TRY(checkpoint_list(parent, &steps, &n, e));
    for (int i = n - 1; i >= 0; i--) { /* oldest first */
        if (steps[i] > last) continue;
        TRY_GOTO(path_join(dir, parent, checkpoint_name(name, steps[i]), e));
        TRY_GOTO(add_snapshot(s, dir, steps[i], e));
    }
    if (s->n == 0)
        TRY_GOTO(
            err_set(e, DDPM_ENOINPUT,
                    "%s: no snapshots up to step %lld: train with ema.sigma_rel=[0.05,0.1] and ema.snapshot_every=N",
                    parent, (long long)last));
    if (q->at > 0 && s->step != q->at)
        TRY_GOTO(err_set(e, DDPM_ENOINPUT, "%s: no snapshot of step %lld; the last one before it is of step %lld",
                         parent, (long long)q->at, (long long)s->step));
done:
    mem_free(steps);
    return st;
}

static ddpm_status sum_up(const snapshots *s, model *m, err *e)
{
    params *store = m->store;
    double *sum = NULL;
    float *host, *copy = NULL;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&sum, store->count, sizeof *sum, "synthesis of averages", e));
    for (int i = 0; i < s->n; i++) {
        TRY_GOTO(params_load(store, ARENA_PARAM, s->file[i], NULL, e));
        TRY_GOTO(params_view(store, ARENA_PARAM, &host, &copy, e));
        for (size_t k = 0; k < store->count; k++) sum[k] += s->weight[i] * (double)host[k];
        mem_free(copy);
        copy = NULL;
    }
    TRY_GOTO(mem_array(&host, store->count, sizeof *host, "synthesis of averages", e));
    for (size_t k = 0; k < store->count; k++) host[k] = (float)sum[k];
    st = params_set(store, ARENA_PARAM, host, e);
    mem_free(host);
done:
    mem_free(copy);
    mem_free(sum);
    return st;
}

ddpm_status ema_synthesize(const ema_request *q, model *m, ema_made *made, err *e)
{
    snapshots s = {.n = 0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(read_snapshots(q, &s, e));
    TRY_GOTO(mem_array(&s.weight, (size_t)s.n, sizeof *s.weight, "snapshots", e));
    TRY_GOTO(
        power_average_fit(s.profile, s.n, (power_average){power_average_gamma(q->sigma_rel), s.images}, s.weight, e));
    TRY_GOTO(sum_up(&s, m, e));
    *made = (ema_made){.step = s.step, .snapshots = s.n, .least = s.weight[0], .most = s.weight[0]};
    for (int i = 1; i < s.n; i++) {
        if (s.weight[i] < made->least) made->least = s.weight[i];
        if (s.weight[i] > made->most) made->most = s.weight[i];
    }
done:
    snapshots_free(&s);
    return st;
}
