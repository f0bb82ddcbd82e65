#include "train/run.h"
#include "core/clock.h"
#include "core/mem.h"
#include "data/image.h"
#include "diffusion/noising.h"
#include "io/atomic_dir.h"
#include "io/checkpoint_dir.h"
#include "train/checkpoint.h"
#include "train/feed.h"
#include "train/fit.h"
#include "train/option_change.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    SAVE_FAILURES = 3, /* failed saves in a row that end a run */
    LOOK_AHEAD = 32    /* steps a device may be given before anybody looks at their results */
};
_Static_assert((int)LOOK_AHEAD <= (int)TRAIN_HISTORY, "what nobody looked at yet must still be there");

typedef struct run {
    const ddpm_config *config; /* borrowed */
    const run_hooks *hooks;
    backend *be;
    run_folder folder;
    char ckpt[PATH_CAP];
    dataset *data;
    feed *feed;
    model *m;
    trainer *trainer;
    generator *preview;
    checkpoint_facts facts;
    train_state state; /* after the last step that was looked at */
    uint64_t given;    /* steps given to the device */
    int64_t steps;
    uint64_t saved_step; /* of the newest checkpoint; UINT64_MAX: none */
    uint64_t skipped_in_a_row;
    int failed_saves;
    double epoch_sum; /* of the losses of the current epoch */
    int64_t epoch_steps;
    double line_time, line_waited; /* of the last line of metrics.jsonl */
    uint64_t line_sample;
} run;

__attribute__((format(printf, 2, 3))) static void note(run *r, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    run_folder_log(&r->folder, text);
    if (r->hooks->note) r->hooks->note(r->hooks->context, text);
}

static int images_per_step(const run *r)
{
    return r->config->train.batch * r->config->train.gradient_accumulation_steps;
}

/* ---- setting up ---------------------------------------------------------------------------------- */

static ddpm_status open_data(run *r, err *e)
{
    const dataset_spec spec = recipe_dataset(r->config);
    TRY(dataset_open(&spec, &r->data, e));
    TRY(dataset_hash(r->data, &r->facts.dataset_hash, e));
    r->steps = recipe_steps(r->config, dataset_count(r->data));
    note(r, "data: %s, %lld images of %dx%dx%d%s", dataset_kind_name(r->data), (long long)dataset_count(r->data),
         dataset_h(r->data), dataset_w(r->data), dataset_c(r->data),
         r->config->data.flip ? ", mirrored at random" : "");
    if (dataset_skipped(r->data) > 0)
        note(r, "data: %lld unreadable files were left out", (long long)dataset_skipped(r->data));
    return DDPM_OK;
}

static ddpm_status build_model(run *r, err *e)
{
    const image_shape shape = {dataset_h(r->data), dataset_w(r->data), dataset_c(r->data)};
    notes remarks = {.text = ""};
    TRY(recipe_model(r->config, r->be, shape, &r->m, &remarks, e));
    if (remarks.text[0]) note(r, "model: %s", remarks.text);
    trainer_spec spec = recipe_trainer(r->config, shape, r->steps);
    if (feed_wants_resident(r->be, r->config, r->data)) spec.resident = dataset_count(r->data);
    TRY(trainer_create(r->m, &spec, &r->trainer, e));
    const trainer_memory need = trainer_needs(r->trainer);
    const double mib = 1.0 / (1 << 20);
    note(r, "model: %s, %.3f M parameters, %.3f GFLOP an image and step",
         r->m->net.kind == NETWORK_SIMPLE ? "simple" : "unet", (double)r->m->store->values / 1e6, need.flops / 1e9);
    note(r, "memory: %.1f MiB of weights, moments and gradients, %.1f MiB of activations (%.1f MiB without sharing)",
         (double)need.weights * mib, (double)need.activations * mib, (double)need.unpacked * mib);
    note(r, "memory: %.1f MiB of inputs%s; %.1f MiB in all, %.1f MiB free", (double)need.inputs * mib,
         spec.resident ? " with the whole data set" : "", (double)fit_total(need) * mib,
         (double)r->be->fn->memory_free(r->be) * mib);
    TRY(fit_check(r->m, &spec, need, e));
    return trainer_allocate(r->trainer, e);
}

static ddpm_status initial_weights(run *r, err *e)
{
    char path[PATH_CAP];
    notes remarks = {.text = ""};
    TRY(recipe_weights(r->config, r->m, path, &remarks, e));
    if (path[0]) note(r, "model: weights from %s", path);
    if (remarks.text[0]) note(r, "model: %s", remarks.text);
    return DDPM_OK;
}

static ddpm_status compare_configs(run *r, const char *dir, err *e)
{
    char path[PATH_CAP];
    ddpm_config before;
    err ignored = {0};
    config_defaults(&before);
    TRY(path_join(path, dir, "training/config.yaml", e));
    if (config_read_file(&before, path, &ignored) != DDPM_OK) {
        note(r, "resume: the options of before cannot be compared: %s", ignored.text);
        return DDPM_OK;
    }
    for (int i = 0; i < CONFIG_OPTIONS; i++) {
        const option_change change = option_changed(&before, r->config, (config_id)i);
        if (change == CHANGE_OF_NETWORK)
            return err_set(
                e, DDPM_EINVAL,
                "%s: %s was another when this run began; resume with the old one, or start anew with another out=", dir,
                config_options[i].key);
        if (change == CHANGE_OF_RESULTS)
            note(r, "resume: %s differs from the checkpoint's: the run goes on, but not bit for bit as before",
                 config_options[i].key);
    }
    return DDPM_OK;
}

static ddpm_status resume_from(run *r, const char *dir, err *e)
{
    checkpoint_facts before = {0};
    TRY(checkpoint_restore(dir, r->m, r->trainer, &before, e));
    TRY(trainer_state(r->trainer, &r->state, e));
    r->saved_step = r->state.step;
    note(r, "resume: %s, step %llu", dir, (unsigned long long)r->state.step);
    if (before.dataset_hash != r->facts.dataset_hash)
        note(r, "resume: the data are not those of the checkpoint: the run goes on with the new ones");
    if (strcmp(before.machine, r->facts.machine))
        note(r, "resume: computed on '%s' before, on '%s' now: the last bits may differ", before.machine,
             r->facts.machine);
    TRY(compare_configs(r, dir, e));
    return run_folder_rewind(&r->folder, r->state.step, e);
}

/* resume=never, auto or a folder. */
static ddpm_status start(run *r, err *e)
{
    char dir[PATH_CAP];
    notes remarks = {.text = ""};
    int64_t *steps = NULL;
    int found = 0;
    const char *resume = r->config->resume;
    TRY(run_folder_file(&r->folder, "ckpt", r->ckpt, e));
    TRY(atomic_dir_sweep(r->ckpt, e));
    TRY(checkpoint_list(r->ckpt, &steps, &found, e));
    mem_free(steps);
    if (!strcmp(resume, "auto") && found > 0) {
        const ddpm_status st = checkpoint_newest_good(r->ckpt, dir, &remarks, e);
        if (remarks.text[0]) note(r, "resume: %s", remarks.text);
        TRY(st);
        return resume_from(r, dir, e);
    }
    if (strcmp(resume, "auto") && strcmp(resume, "never")) return resume_from(r, resume, e);
    if (found > 0)
        return err_set(e, DDPM_EINVAL, "%s holds a run already: resume=auto goes on with it, another out= starts anew",
                       r->folder.path);
    note(r, "start: seed %lld", (long long)r->config->seed);
    TRY(run_folder_rewind(&r->folder, 0, e));
    TRY(initial_weights(r, e));
    return trainer_state(r->trainer, &r->state, e);
}

static ddpm_status write_run_config(run *r, err *e)
{
    char path[PATH_CAP], *text;
    size_t size;
    TRY(run_folder_file(&r->folder, "config.yaml", path, e));
    TRY(config_write(r->config, NULL, false, &text, &size, e));
    const ddpm_status st = file_replace(path, text, size, e);
    mem_free(text);
    return st;
}

/* What the network will see: the first image on its way to noise. */
static ddpm_status draw_noising(run *r, err *e)
{
    static const int share[] = {0, 200, 400, 600, 800, 999}; /* thousandths of the chain */
    enum { N = sizeof share / sizeof *share };
    int t[N];
    image first = {0}, strip = {0};
    char path[PATH_CAP];
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < N; i++) t[i] = (int)((int64_t)share[i] * r->m->scheduler.num_train_timesteps / 1000);
    TRY_GOTO(image_create(&first, dataset_h(r->data), dataset_w(r->data), dataset_c(r->data), "noising.png", e));
    TRY_GOTO(dataset_read(r->data, 0, first.pixel, e));
    TRY_GOTO(noising_strip(&first, &r->m->scheduler, t, N, (uint64_t)r->config->seed, &strip, e));
    TRY_GOTO(run_folder_file(&r->folder, "noising.png", path, e));
    TRY_GOTO(image_write_png(path, &strip, e));
done:
    image_free(&first);
    image_free(&strip);
    return st;
}

static ddpm_status start_feed(run *r, err *e)
{
    r->given = r->state.step;
    return feed_create(
        &(feed_spec){.config = r->config, .data = r->data, .trainer = r->trainer, .first_sample = r->state.sample},
        &r->feed, e);
}

/* ---- along the way ------------------------------------------------------------------------------- */

/* A save that fails is said, tried again at the next occasion, and ends the run at the third in a row. */
static ddpm_status save(run *r, bool must, err *e)
{
    err why = {0};
    if (r->saved_step == r->state.step) return DDPM_OK;
    const ddpm_status st = checkpoint_save(r->ckpt, r->m, r->trainer, r->config, &r->facts, &why);
    if (st == DDPM_OK) {
        r->saved_step = r->state.step;
        r->failed_saves = 0;
        if (run_folder_plot(&r->folder, &why) != DDPM_OK) note(r, "WARNING: %s", why.text); /* no reason to stop */
        return DDPM_OK;
    }
    note(r, "WARNING: step %llu was not saved: %s", (unsigned long long)r->state.step, why.text);
    if (must || ++r->failed_saves >= SAVE_FAILURES) return err_set(e, st, "%s", why.text);
    return DDPM_OK;
}

static ddpm_status make_preview(run *r, err *e)
{
    const arena_kind weights = r->m->store->arena[ARENA_EMA] ? ARENA_EMA : ARENA_PARAM;
    const generator_spec spec = recipe_generator(r->config, r->m, weights);
    TRY(generator_create(r->m, &spec, &r->preview, e));
    return generator_allocate(r->preview, e);
}

static ddpm_status preview(run *r, err *e)
{
    const int n = r->config->sample.count < r->config->sample.batch ? r->config->sample.count : r->config->sample.batch;
    const int shape[3] = {dataset_h(r->data), dataset_w(r->data), dataset_c(r->data)};
    const int64_t count = (int64_t)n * shape[0] * shape[1] * shape[2];
    const int columns = r->config->sample.grid ? r->config->sample.grid : (int)ceil(sqrt((double)n));
    char dir[PATH_CAP], name[64], path[PATH_CAP];
    int64_t *ids = NULL;
    uint8_t *bytes = NULL;
    image grid = {0};
    ddpm_status st = DDPM_OK;
    if (!r->preview) TRY(make_preview(r, e));
    TRY_GOTO(mem_array(&bytes, (size_t)count, 1, "preview", e));
    TRY_GOTO(mem_array(&ids, (size_t)n, sizeof *ids, "preview", e));
    for (int i = 0; i < n; i++) ids[i] = i;
    TRY_GOTO(generator_run_bytes(r->preview, ids, n, bytes, e));
    TRY_GOTO(image_grid(bytes, n, shape, columns, &grid, e));
    TRY_GOTO(run_folder_file(&r->folder, "samples", dir, e));
    TRY_GOTO(dir_make(dir, e));
    (void)snprintf(name, sizeof name, "step_%08llu.png", (unsigned long long)r->state.step);
    TRY_GOTO(path_join(path, dir, name, e));
    TRY_GOTO(image_write_png(path, &grid, e));
done:
    mem_free(bytes);
    mem_free(ids);
    image_free(&grid);
    return st;
}

static ddpm_status judge_step(run *r, bool skipped, err *e)
{
    if (!skipped) {
        r->skipped_in_a_row = 0;
        return DDPM_OK;
    }
    note(r, "WARNING: step %llu was skipped: loss %g, gradient norm %g (%llu skipped so far)",
         (unsigned long long)r->state.step, (double)r->state.loss, (double)r->state.grad_norm,
         (unsigned long long)r->state.skipped);
    if (++r->skipped_in_a_row < (uint64_t)r->config->train.max_skipped) return DDPM_OK;
    return err_set(e, DDPM_EDIVERGED,
                   "%llu steps in a row were not finite: the last checkpoint is good; go on from it with a smaller "
                   "train.lr or a longer train.lr_warmup_steps",
                   (unsigned long long)r->skipped_in_a_row);
}

static void keep_books(run *r)
{
    const uint64_t count = (uint64_t)dataset_count(r->data), before = r->state.sample - (uint64_t)images_per_step(r);
    if (isfinite(r->state.loss)) r->epoch_sum += (double)r->state.loss;
    r->epoch_steps++;
    if (r->state.sample / count != before / count) {
        note(r, "Epoch %llu: mean loss %.5f", (unsigned long long)(r->state.sample / count),
             r->epoch_sum / (double)r->epoch_steps);
        r->epoch_sum = 0;
        r->epoch_steps = 0;
    }
    const bool due = r->state.step % (uint64_t)r->config->log.every == 0 || r->state.step == (uint64_t)r->steps;
    if (!due) return;
    const double now = clock_seconds(), waited = feed_waited_seconds(r->feed);
    const run_metrics m = {.state = &r->state,
                           .images_per_second = (double)(r->state.sample - r->line_sample) / (now - r->line_time),
                           .data_seconds = waited - r->line_waited};
    const bool failed = r->folder.metrics_failed;
    if (!run_folder_metrics(&r->folder, &m) && !failed)
        note(r, "WARNING: %s/metrics.jsonl cannot be written; the training goes on", r->folder.path);
    r->line_time = now, r->line_waited = waited, r->line_sample = r->state.sample;
}

static bool is_multiple(uint64_t count, int64_t of) { return of > 0 && count % (uint64_t)of == 0; }
static bool is_due(const run *r, int64_t every) { return is_multiple(r->state.step, every); }

/* Something is to be written down, saved or drawn after the last step given; or it is time. */
static bool must_look(const run *r)
{
    const ddpm_config *c = r->config;
    return r->be->fn->host_memory || r->given - r->state.step >= LOOK_AHEAD || r->given == (uint64_t)r->steps ||
           is_multiple(r->given, c->log.every) || is_multiple(r->given, c->sample.every) ||
           is_multiple(r->given, c->ckpt.every);
}

/* Go through the results of the steps that nobody has looked at, one by one, as if each had been waited for. */
static ddpm_status catch_up(run *r, const run_status *status, err *e)
{
    train_record history[TRAIN_HISTORY];
    train_state now;
    if (r->state.step == r->given) return DDPM_OK;
    TRY(trainer_state(r->trainer, &now, e));
    TRY(trainer_history(r->trainer, history, e));
    while (r->state.step < now.step) {
        const train_record *done = &history[r->state.step % TRAIN_HISTORY];
        r->state.step++;
        r->state.sample += (uint64_t)images_per_step(r);
        r->state.skipped += done->skipped != 0;
        r->state.loss = done->loss, r->state.grad_norm = done->grad_norm, r->state.lr = done->lr;
        if (r->state.step == now.step) r->state = now;
        TRY(judge_step(r, done->skipped != 0, e));
        keep_books(r);
        if (r->hooks->step) r->hooks->step(r->hooks->context, status);
    }
    return DDPM_OK;
}

static ddpm_status loop(run *r, err *e)
{
    const trainer_memory need = trainer_needs(r->trainer);
    const run_status status = {
        .state = &r->state, .steps = r->steps, .images_per_step = images_per_step(r), .memory = fit_total(need)};
    r->line_time = clock_seconds();
    r->line_sample = r->state.sample;
    if (r->hooks->begin) r->hooks->begin(r->hooks->context, &status);
    while (r->given < (uint64_t)r->steps) {
        TRY(feed_step(r->feed, e));
        r->given++;
        if (must_look(r)) TRY(catch_up(r, &status, e));
        const run_wish wish = r->hooks->wish ? r->hooks->wish(r->hooks->context) : RUN_ON;
        if (wish != RUN_ON) TRY(catch_up(r, &status, e));
        if (r->state.step != r->given) continue;
        if (is_due(r, r->config->sample.every)) TRY(preview(r, e));
        if (is_due(r, r->config->ckpt.every) || wish != RUN_ON) TRY(save(r, wish == RUN_STOP, e));
        if (wish == RUN_STOP && r->state.step < (uint64_t)r->steps)
            return err_set(e, DDPM_ESAVED, "stopped and saved at step %llu; the same command with resume=auto goes on",
                           (unsigned long long)r->state.step);
    }
    return save(r, true, e);
}

ddpm_status run_train(backend *be, const ddpm_config *config, const run_hooks *hooks, err *e)
{
    run *r = NULL;
    ddpm_status st = DDPM_OK;
    TRY(mem_array(&r, 1, sizeof *r, "run", e));
    r->config = config;
    r->hooks = hooks;
    r->be = be;
    r->folder = RUN_FOLDER_NONE;
    r->saved_step = UINT64_MAX;
    TRY_GOTO(run_folder_open(&r->folder, config->out, e));
    be->fn->describe(be, r->facts.machine, sizeof r->facts.machine);
    note(r, "device: %s", r->facts.machine);
    if (be->remark) note(r, "device: %s", be->remark);
    TRY_GOTO(open_data(r, e));
    TRY_GOTO(build_model(r, e));
    TRY_GOTO(start(r, e));
    TRY_GOTO(write_run_config(r, e));
    TRY_GOTO(draw_noising(r, e));
    TRY_GOTO(start_feed(r, e));
    TRY_GOTO(loop(r, e));
done:
    if (st != DDPM_OK && e && r->folder.log >= 0) run_folder_log(&r->folder, e->text);
    feed_destroy(r->feed);
    generator_destroy(r->preview);
    trainer_destroy(r->trainer);
    model_destroy(r->m);
    dataset_close(r->data);
    run_folder_close(&r->folder);
    mem_free(r);
    return st;
}
