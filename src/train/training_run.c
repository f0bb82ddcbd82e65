#include "train/training_run.h"
#include "base/clock.h"
#include "base/mem.h"
#include "train/ema_snapshot.h"
#include "train/run_metrics.h"
#include "train/run_parts.h"

#include <math.h>
#include <stdarg.h>

enum {
    SAVE_FAILURES = 3, /* consecutive failed saves that end a run */
    PATIENCE = 10,     /* consecutive skipped steps that a stop request waits for */
    LOOK_AHEAD = 32    /* most steps launched on a GPU before their results are read */
};
_Static_assert((int)LOOK_AHEAD <= (int)TRAIN_HISTORY, "what nobody looked at yet must still be there");

void run_note(run *r, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    err_line(text, sizeof text, fmt, ap);
    va_end(ap);
    run_folder_log(&r->folder, text);
    if (r->hooks->note) r->hooks->note(r->hooks->context, text);
}

void run_note_losses(run *r)
{
    char text[900];
    if (dataset_lost(r->data, text, sizeof text)) run_note(r, "WARNING: data: %s", text);
}

run_request run_ask(run *r)
{
    const run_request now = r->hooks->request ? r->hooks->request(r->hooks->context) : RUN_CONTINUE;
    if (now > r->request) r->request = now;
    return r->request;
}

/* ---- saving, pruning, previews ------------------------------------------------------------------- */

void run_prune(run *r)
{
    notes left = {.text = ""};
    err why = {0};
    r->prune_due = false;
    if (checkpoint_prune(r->folder.ckpt, (int64_t)r->saved_step, r->config.ckpt.keep, &r->whole, &left, &why) !=
        DDPM_OK)
        notes_add(&left, "%s", why.text);
    if (left.text[0]) run_note(r, "WARNING: older checkpoints were not removed: %s", left.text);
}

static void plot(run *r)
{
    char metrics[PATH_CAP], picture[PATH_CAP];
    err why = {0};
    if (run_folder_file(&r->folder, "metrics.jsonl", metrics, &why) != DDPM_OK ||
        run_folder_file(&r->folder, "loss.svg", picture, &why) != DDPM_OK ||
        run_metrics_plot(metrics, picture, &why) != DDPM_OK)
        run_note(r, "WARNING: %s", why.text); /* only a warning */
}

static ddpm_status save_state(run *r, err *e)
{
    TRY(checkpoint_save(r->folder.ckpt, r->m, r->trainer, &r->config, &r->facts, e));
    r->saved_step = r->state.step;
    r->failed_saves = 0;
    r->save_due = false;
    r->prune_due = true;
    r->proven = false;
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
    run_note(r, "WARNING: step %llu was not saved: %s", (unsigned long long)r->state.step, why.text);
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
        run_note(r, "the preview of step %llu was cancelled, because the run is stopping",
                 (unsigned long long)r->state.step);
    else
        run_note(r, "WARNING: the preview of step %llu failed: %s", (unsigned long long)r->state.step, why.text);
}

/* ---- steps ---- */

/* Short epochs, of data sets not much larger than a batch, are reported together. */
static void end_epoch(run *r)
{
    enum { LEAST_STEPS = 10 };
    const uint64_t count = (uint64_t)dataset_count(r->data), epoch = r->state.sample / count;
    const bool whole = r->since.sample <= (epoch - 1) * count;
    const bool last = r->state.step == (uint64_t)r->steps;
    if (r->epoch_steps < (last ? 1 : LEAST_STEPS)) return;
    run_note(r, "Epoch %llu: mean loss %.5f%s%s", (unsigned long long)epoch, r->epoch_sum / (double)r->epoch_steps,
             whole ? "" : " of the steps after the ", whole ? "" : r->since_what);
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
        run_note(r, "WARNING: %s/metrics.jsonl cannot be written; the training continues", r->folder.path);
        r->metrics_failed = true;
    }
    r->line_time = now, r->line_waited = waited, r->line_sample = r->state.sample;
    run_metrics_begin(&r->state);
    return trainer_restore(r->trainer, &r->state, e);
}

static ddpm_status keep_books(run *r, err *e)
{
    const uint64_t count = (uint64_t)dataset_count(r->data),
                   before = r->state.sample - (uint64_t)run_images_per_step(r);
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
           is_multiple(r->given, c->ckpt.every) || is_multiple(r->given, c->ema.snapshot_every);
}

/* The last step up to `last` that changed the weights; 0: none of those whose results are unread. */
static uint64_t find_last_finite(const run *r, const train_record *history, uint64_t last)
{
    while (last > r->state.step && history[(last - 1) % TRAIN_HISTORY].skipped) last--;
    return last > r->state.step ? last : 0;
}

/* Process the unread results step by step, as if the host had waited for each step. */
static ddpm_status catch_up(run *r, const run_status *status, err *e)
{
    train_record history[TRAIN_HISTORY];
    train_state now;
    if (r->state.step == r->given) return DDPM_OK;
    TRY(trainer_state(r->trainer, &now, e));
    TRY(trainer_history(r->trainer, history, e));
    const uint64_t last_finite = find_last_finite(r, history, now.step);
    while (r->state.step < now.step) {
        const train_record *done = &history[r->state.step % TRAIN_HISTORY];
        r->state.step++;
        r->state.sample += (uint64_t)run_images_per_step(r);
        r->state.skipped += done->skipped != 0;
        r->state.loss = done->loss, r->state.grad_norm = done->grad_norm, r->state.lr = done->lr;
        if (r->state.step == now.step) r->state = now;
        if (done->skipped) TRY(run_report_skip(r, r->state.step > last_finite, e));
        if (run_judge_step(r, done->skipped != 0)) return run_roll_back(r, e);
        TRY(keep_books(r, e));
        if (r->hooks->step) r->hooks->step(r->hooks->context, status);
    }
    return DDPM_OK;
}

static run_status status_of(const run *r)
{
    return (run_status){
        .state = &r->state, .steps = r->steps, .images_per_step = run_images_per_step(r), .memory = r->memory};
}

/* Before the checkpoint of the same step, after which a resumed run would not write it.  A failure is only a warning. */
static void keep_snapshot(run *r)
{
    err why = {0};
    if (ema_snapshot_write(r->folder.path, r->m, r->trainer, &why) != DDPM_OK)
        run_note(r, "WARNING: no snapshot of the averages of step %llu: %s", (unsigned long long)r->state.step,
                 why.text);
}

/* Between two steps, once the results of all launched steps are read. */
static ddpm_status between_steps(run *r, err *e)
{
    if (is_due(r, r->config.ema.snapshot_every)) keep_snapshot(r);
    if (is_due(r, r->config.ckpt.every) || r->save_due || r->request == RUN_SAVE) TRY(save(r, false, e));
    if (r->request == RUN_SAVE) r->request = RUN_CONTINUE;
    if (r->request == RUN_CONTINUE && is_due(r, r->config.sample.every) && r->state.step > r->since.step)
        draw_preview(r);
    if (r->request != RUN_STOP) return DDPM_OK;
    TRY(save(r, true, e));
    if (r->skipped_in_a_row > PATIENCE) return run_diverged(r, e); /* else wait for a finite step that can be saved */
    if (r->saved_step != r->state.step || r->state.step >= (uint64_t)r->steps) return DDPM_OK;
    return err_set(e, DDPM_ESAVED, "stopped and saved at step %llu; the same command with resume=auto continues",
                   (unsigned long long)r->state.step);
}

static ddpm_status take_steps(run *r, const run_status *status, err *e)
{
    while (r->given < (uint64_t)r->steps) {
        const ddpm_status fed = feed_step(r->feed, e);
        run_note_losses(r);
        TRY(fed);
        r->given++;
        if (must_look(r)) TRY(catch_up(r, status, e));
        if (run_ask(r) != RUN_CONTINUE) TRY(catch_up(r, status, e));
        if (r->state.step == r->given) TRY(between_steps(r, e));
    }
    return save(r, true, e);
}

/* A run whose last steps were not finite, and are not saved, takes its end once more, with later samples. */
static ddpm_status loop(run *r, err *e)
{
    const run_status status = status_of(r);
    r->line_time = clock_seconds();
    r->line_sample = r->state.sample;
    if (r->hooks->begin) r->hooks->begin(r->hooks->context, &status);
    TRY(take_steps(r, &status, e));
    while (r->saved_step != r->state.step) {
        TRY(run_roll_back(r, e));
        TRY(take_steps(r, &status, e));
    }
    return DDPM_OK;
}

/* After an error the last state is saved if possible: a missing image must not cost hours of training. */
static ddpm_status train(run *r, err *e)
{
    const run_status status = status_of(r);
    err first = {0}, why = {0};
    ddpm_status st = loop(r, &first), saved = DDPM_OK;
    const bool advanced = r->given > r->since.step;
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
    run_prune(r); /* no later step can prove the last checkpoint */
    return st;
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
    r->saved_step = UINT64_MAX;
    ddpm_status st = run_set_up(r, &why);
    if (st == DDPM_OK) st = train(r, &why);
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
