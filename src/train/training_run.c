#include "train/training_run.h"
#include "base/arith.h"
#include "base/clock.h"
#include "base/mem.h"
#include "data/image.h"
#include "diffusion/noising.h"
#include "io/checkpoint_dir.h"
#include "train/advice.h"
#include "train/image_feed.h"
#include "train/trainer_fit.h"
#include "train/preview.h"
#include "train/resume.h"
#include "train/run_classes.h"
#include "train/run_metrics.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    SAVE_FAILURES = 3, /* consecutive failed saves that end a run */
    PATIENCE = 10,     /* consecutive skipped steps that are reported singly, and that a stop request waits for */
    LOOK_AHEAD = 32    /* most steps launched on a GPU before their results are read */
};
_Static_assert((int)LOOK_AHEAD <= (int)TRAIN_HISTORY, "what nobody looked at yet must still be there");

typedef struct run {
    ddpm_config config; /* as given; a resumed run keeps its original seed */
    const run_hooks *hooks;
    backend *be;
    run_folder folder;
    dataset *data;
    feed *feed;
    model *m;
    trainer *trainer;
    preview *preview; /* NULL: no previews */
    size_t memory;    /* planned bytes, including previews */
    checkpoint_facts facts;
    train_state state; /* after the last step whose results were read */
    uint64_t given;    /* steps launched */
    int64_t steps;
    resume_point from;   /* the run's starting point */
    uint64_t saved_step; /* step of the newest checkpoint in the run folder; UINT64_MAX: none */
    uint64_t sound_step; /* step of the newest checkpoint that a finite step followed; UINT64_MAX: none */
    bool prune_due;      /* older checkpoints are kept until a finite step follows the newest */
    bool save_due;       /* a save is postponed while steps are being skipped */
    checkpoint_known whole;
    uint64_t skipped_in_a_row;
    int failed_saves; /* consecutive */
    bool gave_up_saving;
    run_request request;           /* the strongest pending request */
    double epoch_sum;              /* sum of the losses of the current epoch */
    int64_t epoch_steps;           /* steps of the epoch with a finite loss */
    bool metrics_failed;           /* the warning was printed */
    double line_time, line_waited; /* at the last line of metrics.jsonl */
    uint64_t line_sample;
} run;

__attribute__((format(printf, 2, 3))) static void note(run *r, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    err_line(text, sizeof text, fmt, ap);
    va_end(ap);
    run_folder_log(&r->folder, text);
    if (r->hooks->note) r->hooks->note(r->hooks->context, text);
}

static int images_per_step(const run *r) { return r->config.train.batch * r->config.train.gradient_accumulation_steps; }

static run_request ask(run *r)
{
    const run_request now = r->hooks->request ? r->hooks->request(r->hooks->context) : RUN_CONTINUE;
    if (now > r->request) r->request = now;
    return r->request;
}

/* A stop request aborts the preview. */
static bool preview_tick(void *context, int done, int total) { return ask(context) == RUN_STOP; }

/* ---- setting up ---------------------------------------------------------------------------------- */

static ddpm_status open_data(run *r, err *e)
{
    const dataset_spec spec = recipe_dataset(&r->config);
    TRY(dataset_open(&spec, &r->data, e));
    TRY(dataset_hash(r->data, &r->facts.dataset_hash, e));
    r->steps = recipe_steps(&r->config, dataset_count(r->data));
    note(r, "data: %s, %lld images of %dx%dx%d%s", dataset_kind_name(r->data), (long long)dataset_count(r->data),
         dataset_h(r->data), dataset_w(r->data), dataset_c(r->data), r->config.data.flip ? ", mirrored at random" : "");
    for (int i = 0; dataset_remarked(r->data, i); i++) note(r, "data: %s", dataset_remarked(r->data, i));
    return DDPM_OK;
}

static void give_advice(run *r)
{
    char text[ADVICE_MOST][ADVICE_TEXT];
    const int n = advice_of(&r->config, r->steps, dataset_count(r->data), text);
    for (int i = 0; i < n; i++) note(r, "WARNING: %s", text[i]);
}

/* The previews' memory is allocated with the trainer's, so that no preview can run out of memory during the run. */
static ddpm_status plan_preview(run *r, err *e)
{
    char folder[PATH_CAP];
    if (r->config.sample.every == 0 || r->config.sample.every > r->steps) return DDPM_OK;
    TRY(run_folder_file(&r->folder, "samples", folder, e));
    return preview_create(
        &(preview_spec){.config = &r->config, .m = r->m, .folder = folder, .tick = preview_tick, .context = r},
        &r->preview, e);
}

/* A resumed run reads its network from its checkpoint: the folder of model.init_from may be missing or changed. */
static ddpm_config config_of_network(const run *r)
{
    ddpm_config c = r->config;
    if (c.model.init_from[0] && r->from.dir[0]) memcpy(c.model.init_from, r->from.dir, sizeof r->from.dir);
    return c;
}

static ddpm_status adopt(run *r, err *e)
{
    ddpm_config c = config_of_network(r);
    TRY(recipe_adopt(&c, NULL, e)); /* build_model() notes the remarks */
    memcpy(c.model.init_from, r->config.model.init_from, sizeof c.model.init_from);
    r->config = c;
    return DDPM_OK;
}

static ddpm_status build_model(run *r, err *e)
{
    const image_shape shape = recipe_shape(r->data);
    const ddpm_config of_network = config_of_network(r);
    notes remarks = {.text = ""};
    TRY(recipe_model(&of_network, r->be, shape, &r->m, &remarks, e));
    trainer_spec spec = recipe_trainer(&r->config, shape, r->steps);
    TRY(run_classes_take(r->data, &spec, !r->config.model.init_from[0], r->m, &remarks, e));
    r->facts.dataset_hash ^= run_classes_hash(r->data, r->m);
    if (remarks.text[0]) note(r, "model: %s", remarks.text);
    if (feed_wants_resident(r->be, &r->config, r->data)) spec.resident = dataset_count(r->data);
    spec.ahead = feed_ahead(&r->config, spec.resident > 0);
    TRY(trainer_create(r->m, &spec, &r->trainer, e));
    TRY(plan_preview(r, e));
    trainer_memory need = trainer_needs(r->trainer);
    note(r, "model: %s, %.3f M parameters, %.3f GFLOP an image and step",
         r->m->net.kind == NETWORK_SIMPLE ? "simple" : "unet", (double)r->m->store->values / 1e6, need.flops / 1e9);
    note(r,
         "memory: %.1f MiB of weights, moments and gradients, %.1f MiB of activations (%.1f MiB without memory reuse)",
         bytes_to_mib(need.weights), bytes_to_mib(need.activations), bytes_to_mib(need.unpacked));
    if (r->preview) {
        note(r, "memory: %.1f MiB for previews", bytes_to_mib(preview_bytes(r->preview)));
        need.activations += preview_bytes(r->preview);
    }
    r->memory = trainer_fit_total(need);
    note(r, "memory: %.1f MiB of inputs%s; %.1f MiB in all, %.1f MiB free", bytes_to_mib(need.inputs + need.ahead),
         spec.resident ? " with the whole data set" : " and batches loaded ahead", bytes_to_mib(r->memory),
         bytes_to_mib(r->be->fn->memory_free(r->be)));
    TRY(trainer_fit_check(r->m, &spec, need, e));
    TRY(trainer_allocate(r->trainer, e));
    return r->preview ? preview_allocate(r->preview, e) : DDPM_OK;
}

static ddpm_status initial_weights(run *r, err *e)
{
    char path[PATH_CAP];
    notes remarks = {.text = ""};
    TRY(recipe_weights(&r->config, r->m, path, &remarks, e));
    if (path[0]) note(r, "model: weights from %s", path);
    if (remarks.text[0]) note(r, "model: %s", remarks.text);
    return DDPM_OK;
}

static void say(void *context, const char *text) { note(context, "%s", text); }

/* Choose the starting point; a resumed run keeps its original seed. */
static ddpm_status choose_start(run *r, err *e)
{
    const resume_question q = {.folder = &r->folder, .config = &r->config, .say = say, .context = r};
    TRY(resume_choose(&q, &r->from, e));
    TRY(adopt(r, e));
    TRY(resume_compare(&q, &r->from, e));
    if (!r->from.dir[0] || r->from.state.seed == (uint64_t)r->config.seed) return DDPM_OK;
    note(r, "resume: seed=%lld has no effect: the run continues with its original seed %llu", (long long)r->config.seed,
         (unsigned long long)r->from.state.seed);
    r->config.seed = (int64_t)r->from.state.seed;
    return DDPM_OK;
}

static ddpm_status restore(run *r, err *e)
{
    const checkpoint_facts *before = &r->from.facts;
    err why = {0};
    const ddpm_status st = checkpoint_restore(r->from.dir, &r->from.state, r->m, r->trainer, &why);
    if (st != DDPM_OK)
        return err_set(e, st, "%s; resume=FOLDER rewind=true continues from an older checkpoint", why.text);
    note(r, "resume: %s, step %llu", r->from.dir, (unsigned long long)r->from.state.step);
    if (before->dataset_hash != r->facts.dataset_hash)
        note(r, "resume: the data set differs from that of the checkpoint: the run continues with the new data set");
    if (strcmp(before->machine, r->facts.machine))
        note(r, "resume: the device was '%s' and is now '%s': the last bits of the results may differ", before->machine,
             r->facts.machine);
    if (!r->from.own) return DDPM_OK;
    r->saved_step = r->from.state.step;
    return checkpoint_known_add(&r->whole, (int64_t)r->saved_step, e);
}

/* Set weights and state, and remove everything later than the starting point from the folder. */
static ddpm_status start(run *r, err *e)
{
    const resume_question q = {.folder = &r->folder, .config = &r->config, .say = say, .context = r};
    if (!r->from.dir[0]) note(r, "start: seed %lld", (long long)r->config.seed);
    TRY(r->from.dir[0] ? restore(r, e) : initial_weights(r, e));
    TRY(resume_rewind(&q, &r->from, e));
    return trainer_state(r->trainer, &r->state, e);
}

static ddpm_status write_run_config(run *r, err *e)
{
    char path[PATH_CAP], *text;
    size_t size;
    TRY(run_folder_file(&r->folder, "config.yaml", path, e));
    if (run_folder_is_input(&r->folder, &r->config, "config.yaml")) {
        note(
            r,
            "%s: not overwritten, because it is an input: ckpt/*/training/config.yaml contains all options of this run",
            path);
        return DDPM_OK;
    }
    TRY(config_write(&r->config, NULL, false, &text, &size, e));
    const ddpm_status st = file_replace(path, text, size, e);
    mem_free(text);
    return st;
}

static ddpm_status write_noising(run *r, err *e)
{
    static const int share[] = {0, 200, 400, 600, 800, 999}; /* thousandths of T */
    enum { N = sizeof share / sizeof *share };
    int t[N];
    image first = {0}, strip = {0};
    char path[PATH_CAP];
    ddpm_status st = DDPM_OK;
    for (int i = 0; i < N; i++) t[i] = (int)((int64_t)share[i] * r->m->scheduler.num_train_timesteps / 1000);
    TRY_GOTO(image_create(&first, dataset_h(r->data), dataset_w(r->data), dataset_c(r->data), "noising.png", e));
    TRY_GOTO(dataset_read_or_next(r->data, 0, first.pixel, NULL, e));
    TRY_GOTO(noising_strip(&first, &r->m->scheduler, t, N, (uint64_t)r->config.seed, &strip, e));
    TRY_GOTO(run_folder_file(&r->folder, "noising.png", path, e));
    TRY_GOTO(image_write_png(path, &strip, e));
done:
    image_free(&first);
    image_free(&strip);
    return st;
}

/* Write noising.png, which shows the network's inputs: the first image at several noise levels.  A failure is only a
 * warning. */
static void draw_noising(run *r)
{
    err why = {0};
    if (write_noising(r, &why) != DDPM_OK) note(r, "WARNING: noising.png was not written: %s", why.text);
}

/* Warn about images that were lost since the last warning. */
static void note_losses(run *r)
{
    char text[900];
    if (dataset_lost(r->data, text, sizeof text)) note(r, "WARNING: data: %s", text);
}

static ddpm_status start_feed(run *r, err *e)
{
    r->given = r->state.step;
    const ddpm_status st = feed_create(
        &(feed_spec){.config = &r->config, .data = r->data, .trainer = r->trainer, .first_sample = r->state.sample},
        &r->feed, e);
    note_losses(r);
    return st;
}

/* ---- saving, pruning, previews ------------------------------------------------------------------- */

/* Remove older checkpoints.  A failure is only a warning, as the new checkpoint is saved. */
static void prune(run *r)
{
    notes left = {.text = ""};
    err why = {0};
    r->prune_due = false;
    if (checkpoint_prune(r->folder.ckpt, (int64_t)r->saved_step, r->config.ckpt.keep, &r->whole, &left, &why) !=
        DDPM_OK)
        notes_add(&left, "%s", why.text);
    if (left.text[0]) note(r, "WARNING: older checkpoints were not removed: %s", left.text);
}

static void plot(run *r)
{
    char metrics[PATH_CAP], picture[PATH_CAP];
    err why = {0};
    if (run_folder_file(&r->folder, "metrics.jsonl", metrics, &why) != DDPM_OK ||
        run_folder_file(&r->folder, "loss.svg", picture, &why) != DDPM_OK ||
        run_metrics_plot(metrics, picture, &why) != DDPM_OK)
        note(r, "WARNING: %s", why.text); /* only a warning */
}

static ddpm_status save_state(run *r, err *e)
{
    TRY(checkpoint_save(r->folder.ckpt, r->m, r->trainer, &r->config, &r->facts, e));
    r->saved_step = r->state.step;
    r->failed_saves = 0;
    r->save_due = false;
    r->prune_due = true;
    return checkpoint_known_add(&r->whole, (int64_t)r->saved_step, e);
}

/* A failed save is reported and retried at the next occasion; the third consecutive failure ends the run.  Nothing is
 * saved while steps are being skipped, because bad weights may be the cause. */
static ddpm_status save(run *r, bool must, err *e)
{
    err why = {0};
    if (r->saved_step == r->state.step) return DDPM_OK;
    if (r->skipped_in_a_row > 0) {
        r->save_due = true;
        return DDPM_OK;
    }
    const ddpm_status st = save_state(r, &why);
    if (st == DDPM_OK) {
        plot(r);
        return DDPM_OK;
    }
    note(r, "WARNING: step %llu was not saved: %s", (unsigned long long)r->state.step, why.text);
    if (!must && ++r->failed_saves < SAVE_FAILURES) return DDPM_OK;
    r->gave_up_saving = true;
    return err_set(e, st, "%s", why.text);
}

/* A failed preview is only a warning. */
static void draw_preview(run *r)
{
    err why = {0};
    const ddpm_status st = preview_draw(r->preview, r->state.step, &why);
    if (st == DDPM_OK) return;
    if (st == DDPM_ESAVED)
        note(r, "the preview of step %llu was cancelled, because the run is stopping",
             (unsigned long long)r->state.step);
    else
        note(r, "WARNING: the preview of step %llu failed: %s", (unsigned long long)r->state.step, why.text);
}

/* ---- steps ---- */

/* Describe the checkpoint to continue from, after verifying it again. */
static void describe_way_back(const run *r, char *text, size_t cap)
{
    char name[CHECKPOINT_NAME_CAP], path[PATH_CAP];
    err why = {0};
    if (r->sound_step == UINT64_MAX ||
        path_join(path, r->folder.ckpt, checkpoint_name(name, (int64_t)r->sound_step), &why) != DDPM_OK ||
        checkpoint_verify(path, &why) != DDPM_OK)
        (void)snprintf(text, cap, "no checkpoint of this run is known to be good");
    else if (r->sound_step == r->saved_step)
        (void)snprintf(text, cap, "%s is undamaged, and resume=auto continues from it", name);
    else
        (void)snprintf(
            text, cap,
            "the last checkpoint followed by finite steps is %s: continue from it with resume=%.1500s rewind=true",
            name, path);
}

/* A finite step proves that the weights before it were good. */
static void take_finite_step(run *r)
{
    r->skipped_in_a_row = 0;
    if (r->saved_step == UINT64_MAX || r->state.step <= r->saved_step) return;
    r->sound_step = r->saved_step;
    if (r->prune_due) prune(r);
}

/* printf would print the meaningless sign of a NaN. */
static double unsigned_nan(float v) { return isnan(v) ? (double)NAN : (double)v; }

static ddpm_status end_diverged(const run *r, err *e)
{
    char way_back[2000];
    describe_way_back(r, way_back, sizeof way_back);
    return err_set(e, DDPM_EDIVERGED,
                   "%llu consecutive steps were not finite and not saved; %s; use a smaller train.lr or "
                   "a longer train.lr_warmup_steps",
                   (unsigned long long)r->skipped_in_a_row, way_back);
}

static ddpm_status judge_step(run *r, bool skipped, err *e)
{
    if (!skipped) {
        take_finite_step(r);
        return DDPM_OK;
    }
    const uint64_t n = ++r->skipped_in_a_row;
    if (n <= PATIENCE || (n & (n - 1)) == 0) /* then only at powers of 2 */
        note(r, "WARNING: step %llu was skipped: loss %g, gradient norm %g (%llu skipped so far)",
             (unsigned long long)r->state.step, unsigned_nan(r->state.loss), unsigned_nan(r->state.grad_norm),
             (unsigned long long)r->state.skipped);
    return n < (uint64_t)r->config.train.max_skipped ? DDPM_OK : end_diverged(r, e);
}

/* Short epochs, of data sets not much larger than a batch, are reported together. */
static void end_epoch(run *r)
{
    enum { LEAST_STEPS = 10 };
    const uint64_t count = (uint64_t)dataset_count(r->data), epoch = r->state.sample / count;
    const bool whole = r->from.state.sample <= (epoch - 1) * count;
    const bool last = r->state.step == (uint64_t)r->steps;
    if (r->epoch_steps < (last ? 1 : LEAST_STEPS)) return;
    note(r, whole ? "Epoch %llu: mean loss %.5f" : "Epoch %llu: mean loss %.5f of the steps after the resume",
         (unsigned long long)epoch, r->epoch_sum / (double)r->epoch_steps);
    r->epoch_sum = 0;
    r->epoch_steps = 0;
}

/* The results of all launched steps are read when a line is due, so that the state may be written. */
static ddpm_status write_line(run *r, err *e)
{
    const double now = clock_seconds(), waited = feed_waited_seconds(r->feed);
    const run_metrics m = {.state = &r->state,
                           .images_per_second = (double)(r->state.sample - r->line_sample) / (now - r->line_time),
                           .data_seconds = waited - r->line_waited};
    if (!run_metrics_append(&r->folder.metrics, &m) && !r->metrics_failed) {
        note(r, "WARNING: %s/metrics.jsonl cannot be written; the training continues", r->folder.path);
        r->metrics_failed = true;
    }
    r->line_time = now, r->line_waited = waited, r->line_sample = r->state.sample;
    run_metrics_begin(&r->state);
    return trainer_restore(r->trainer, &r->state, e);
}

static ddpm_status keep_books(run *r, err *e)
{
    const uint64_t count = (uint64_t)dataset_count(r->data), before = r->state.sample - (uint64_t)images_per_step(r);
    if (isfinite(r->state.loss)) r->epoch_sum += (double)r->state.loss, r->epoch_steps++;
    if (r->state.sample / count != before / count) end_epoch(r);
    const bool due = r->state.step % (uint64_t)r->config.log.every == 0 || r->state.step == (uint64_t)r->steps;
    return due ? write_line(r, e) : DDPM_OK;
}

static bool is_multiple(uint64_t count, int64_t of) { return of > 0 && count % (uint64_t)of == 0; }
static bool is_due(const run *r, int64_t every) { return is_multiple(r->state.step, every); }

/* Must the results be read now?  Yes if a log line, checkpoint or preview is due after the last launched step, or if
 * LOOK_AHEAD steps are unread. */
static bool must_look(const run *r)
{
    const ddpm_config *c = &r->config;
    return r->be->fn->host_memory || r->given - r->state.step >= LOOK_AHEAD || r->given == (uint64_t)r->steps ||
           is_multiple(r->given, c->log.every) || is_multiple(r->given, c->sample.every) ||
           is_multiple(r->given, c->ckpt.every);
}

/* Process the unread results step by step, as if the host had waited for each step. */
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
        TRY(keep_books(r, e));
        if (r->hooks->step) r->hooks->step(r->hooks->context, status);
    }
    return DDPM_OK;
}

static run_status status_of(const run *r)
{
    return (run_status){
        .state = &r->state, .steps = r->steps, .images_per_step = images_per_step(r), .memory = r->memory};
}

/* Between two steps, once the results of all launched steps are read. */
static ddpm_status between_steps(run *r, err *e)
{
    if (is_due(r, r->config.ckpt.every) || r->save_due || r->request == RUN_SAVE) TRY(save(r, false, e));
    if (r->request == RUN_SAVE) r->request = RUN_CONTINUE;
    if (r->request == RUN_CONTINUE && is_due(r, r->config.sample.every)) draw_preview(r);
    if (r->request != RUN_STOP) return DDPM_OK;
    TRY(save(r, true, e));
    if (r->skipped_in_a_row > PATIENCE) return end_diverged(r, e); /* else wait for a finite step that can be saved */
    if (r->saved_step != r->state.step || r->state.step >= (uint64_t)r->steps) return DDPM_OK;
    return err_set(e, DDPM_ESAVED, "stopped and saved at step %llu; the same command with resume=auto continues",
                   (unsigned long long)r->state.step);
}

static ddpm_status loop(run *r, err *e)
{
    const run_status status = status_of(r);
    r->line_time = clock_seconds();
    r->line_sample = r->state.sample;
    if (r->hooks->begin) r->hooks->begin(r->hooks->context, &status);
    while (r->given < (uint64_t)r->steps) {
        const ddpm_status fed = feed_step(r->feed, e);
        note_losses(r);
        TRY(fed);
        r->given++;
        if (must_look(r)) TRY(catch_up(r, &status, e));
        if (ask(r) != RUN_CONTINUE) TRY(catch_up(r, &status, e));
        if (r->state.step == r->given) TRY(between_steps(r, e));
    }
    TRY(save(r, true, e));
    if (r->saved_step == r->state.step) return DDPM_OK;
    return err_set(e, DDPM_EDIVERGED, "the last %llu steps were not finite, so the final step was not saved",
                   (unsigned long long)r->skipped_in_a_row);
}

/* After an error the last state is saved if possible: a missing image must not cost hours of training. */
static ddpm_status train(run *r, err *e)
{
    const run_status status = status_of(r);
    err first = {0}, why = {0};
    ddpm_status st = loop(r, &first), saved = DDPM_OK;
    const bool advanced = r->given > r->from.state.step;
    if (st != DDPM_OK && st != DDPM_ESAVED && st != DDPM_EDIVERGED && !r->gave_up_saving && advanced) {
        saved = catch_up(r, &status, &why);
        if (saved == DDPM_OK) saved = save(r, true, &why);
        const bool is_saved = saved == DDPM_OK && r->saved_step == r->state.step;
        st = is_saved ? err_set(e, st, "%s; step %llu is saved: resume=auto continues from it", first.text,
                                (unsigned long long)r->state.step)
                      : err_set(e, st, "%s; step %llu could not be saved: %s", first.text,
                                (unsigned long long)r->state.step, why.text[0] ? why.text : "steps are being skipped");
    } else if (st != DDPM_OK) {
        st = err_set(e, st, "%s", first.text);
    }
    if (st == DDPM_EDIVERGED || !r->prune_due) return st;
    r->sound_step = r->saved_step; /* no later step can prove it */
    prune(r);
    return st;
}

static void note_remark(run *r)
{
    const char *remark = backend_take_remark(r->be);
    if (remark) note(r, "device: %s", remark);
}

static ddpm_status run_all(run *r, err *e)
{
    TRY(run_folder_open(&r->folder, &r->config, e));
    r->be->fn->describe(r->be, r->facts.machine, sizeof r->facts.machine);
    note(r, "device: %s", r->facts.machine);
    note_remark(r);
    TRY(choose_start(r, e));
    TRY(open_data(r, e));
    give_advice(r);
    TRY(build_model(r, e));
    TRY(start(r, e));
    note_remark(r); /* of autotuning */
    TRY(write_run_config(r, e));
    draw_noising(r);
    TRY(start_feed(r, e));
    return train(r, e);
}

ddpm_status run_train(backend *be, const ddpm_config *config, const run_hooks *hooks, err *e)
{
    run *r = NULL;
    err why = {0};
    TRY(mem_array(&r, 1, sizeof *r, "run", e));
    r->config = *config;
    r->hooks = hooks;
    r->be = be;
    r->folder = RUN_FOLDER_NONE;
    r->saved_step = r->sound_step = UINT64_MAX;
    ddpm_status st = run_all(r, &why);
    if (st != DDPM_OK) {
        run_folder_log(&r->folder, why.text);
        st = err_set(e, st, "%s", why.text);
    }
    feed_destroy(r->feed);
    preview_destroy(r->preview);
    trainer_destroy(r->trainer);
    model_destroy(r->m);
    dataset_close(r->data);
    resume_free(&r->from);
    checkpoint_known_free(&r->whole);
    run_folder_close(&r->folder);
    mem_free(r);
    return st;
}
