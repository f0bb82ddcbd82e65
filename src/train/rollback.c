/* rollback.c - what a training does when steps are not finite: it skips them, and after too many of them returns to the
 * last good checkpoint and continues with later samples.
 *
 * Skipping alone does not help where the weights were led to a place from which every batch overflows.  So the weights,
 * the moments and the step counter become those of the checkpoint, and the run continues with the sample after the last
 * skipped one: it never sees the samples since the checkpoint again, neither those that led there nor those that were
 * skipped (Chowdhery et al. 2022, PaLM, arXiv:2204.02311, section 5.1).
 *
 * A rollback writes no file that a later resume would need: the next checkpoint holds its sample and the count of
 * rollbacks, and a run that is killed before it repeats the way to the rollback, and the rollback, to the same bits. */
#include "train/run_parts.h"
#include "base/clock.h"
#include "base/mem.h"

#include <stdio.h>
#include <string.h>

/* A finite step proves that the weights before it were good. */
static void take_finite_step(run *r)
{
    r->skipped_in_a_row = 0;
    r->located = false;
    if (r->state.step > r->facts.rollback_end) r->facts.rollbacks = r->facts.rollback_end = 0;
    if (r->saved_step == UINT64_MAX || r->state.step <= r->saved_step) return;
    r->proven = true;
    if (r->prune_due) run_prune(r);
}

bool run_judge_step(run *r, bool skipped)
{
    if (!skipped) {
        take_finite_step(r);
        return false;
    }
    return ++r->skipped_in_a_row >= (uint64_t)r->config.train.max_skipped;
}

/* ---- the checkpoint ------------------------------------------------------------------------------ */

/* The newest undamaged checkpoint that a finite step followed, into path[PATH_CAP].  All but the newest of the folder were
 * followed by one, because nothing is saved while steps are being skipped.  DDPM_ENOINPUT: there is none.  Other errors:
 * the checkpoints cannot be read, which does not make them damaged. */
static ddpm_status find_good(run *r, char *path, uint64_t *at, err *e)
{
    char name[CHECKPOINT_NAME_CAP];
    int64_t *steps = NULL;
    int n = 0;
    ddpm_status st = DDPM_EDATA;
    err why = {0};
    TRY(checkpoint_list(r->folder.ckpt, &steps, &n, e));
    for (int i = 0; i < n && st == DDPM_EDATA; i++) {
        *at = (uint64_t)steps[i];
        if (*at > r->state.step || (*at == r->saved_step && !r->proven)) continue;
        st = path_join(path, r->folder.ckpt, checkpoint_name(name, steps[i]), &why);
        if (st == DDPM_OK) st = checkpoint_verify(path, &why);
        if (st == DDPM_EDATA) run_note(r, "WARNING: %s", why.text);
    }
    mem_free(steps);
    if (st == DDPM_OK) return DDPM_OK;
    if (st == DDPM_EDATA) return err_set(e, DDPM_ENOINPUT, "no checkpoint of this run is known to be good");
    return err_set(e, st == DDPM_ENOINPUT ? DDPM_EIO : st, "%s", why.text); /* a file that cannot be opened now */
}

/* Where find_good() found none: is there no checkpoint at all, or only ones that cannot be relied on? */
static void describe_nothing(const run *r, const err *why, char *text, size_t cap)
{
    char finite[80] = "none of its steps was finite";
    int64_t *steps = NULL;
    int n = 0;
    err ignored = {0};
    const uint64_t last = r->state.step - r->skipped_in_a_row;
    const bool unknown = checkpoint_list(r->folder.ckpt, &steps, &n, &ignored) != DDPM_OK;
    mem_free(steps);
    if (last > r->since.step)
        (void)snprintf(finite, sizeof finite, "its last finite step was %llu", (unsigned long long)last);
    if (unknown || n > 0)
        (void)snprintf(text, cap, "%s: no finite step followed the newest, or it is damaged", why->text);
    else if (r->from.dir[0])
        (void)snprintf(text, cap, "the run has no checkpoint yet, and %s: the same command begins again at %.1500s",
                       finite, r->from.dir);
    else
        (void)snprintf(text, cap,
                       "the run has no checkpoint, and %s, so nothing of it is kept: the same command begins again; "
                       "a smaller ckpt.every allows rollbacks",
                       finite);
}

static void describe_way_back(run *r, char *text, size_t cap)
{
    char name[CHECKPOINT_NAME_CAP], path[PATH_CAP];
    uint64_t at;
    err why = {0};
    const ddpm_status st = find_good(r, path, &at, &why);
    if (st == DDPM_ENOINPUT)
        describe_nothing(r, &why, text, cap);
    else if (st != DDPM_OK)
        (void)snprintf(text, cap, "%s", why.text);
    else if (at == r->saved_step)
        (void)snprintf(text, cap, "%s is undamaged, and resume=auto continues from it",
                       checkpoint_name(name, (int64_t)at));
    else
        (void)snprintf(
            text, cap,
            "the last checkpoint followed by finite steps is %s: continue from it with resume=%.1500s rewind=true",
            checkpoint_name(name, (int64_t)at), path);
}

ddpm_status run_diverged(run *r, err *e)
{
    char way_back[2000], before[64] = "";
    describe_way_back(r, way_back, sizeof way_back);
    if (r->facts.rollbacks > 0)
        (void)snprintf(before, sizeof before, " after %llu rollback%s", (unsigned long long)r->facts.rollbacks,
                       r->facts.rollbacks == 1 ? "" : "s");
    return err_set(e, DDPM_EDIVERGED,
                   "%llu consecutive steps were not finite and not saved%s; %s; use a smaller train.lr or "
                   "a longer train.lr_warmup_steps",
                   (unsigned long long)r->skipped_in_a_row, before, way_back);
}

/* ---- returning to it ----------------------------------------------------------------------------- */

/* Move the checkpoints of steps after this one, and a copy of the metrics, to a new ckpt/superseded_NNN. */
static ddpm_status set_aside(run *r, uint64_t after, err *e)
{
    int64_t *steps = NULL;
    int n;
    notes remarks = {.text = ""};
    run_metrics_past past = {.kept = NULL};
    ddpm_status st = DDPM_OK;
    r->folder.superseded[0] = '\0'; /* that of an earlier rollback may hold a checkpoint of the same step */
    TRY_GOTO(run_folder_past(&r->folder, after, false, &past, &remarks, e));
    if (remarks.text[0]) run_note(r, "rollback: %s", remarks.text);
    TRY_GOTO(checkpoint_list(r->folder.ckpt, &steps, &n, e));
    for (int i = 0; i < n; i++)
        if (steps[i] > (int64_t)after) TRY_GOTO(run_folder_supersede(&r->folder, steps[i], e));
    TRY_GOTO(run_folder_rewind(&r->folder, &past, e));
done:
    mem_free(steps);
    mem_free(past.kept);
    return st;
}

/* `state` is that of the checkpoint, but with a later sample. */
static ddpm_status restore(run *r, const char *path, const train_state *state, err *e)
{
    TRY(checkpoint_restore(path, state, r->m, r->trainer, e));
    TRY(feed_seek(r->feed, state->sample, e));
    return trainer_state(r->trainer, &r->state, e);
}

/* The sums and counts that began at the start, or after the last rollback. */
static void begin_again(run *r)
{
    r->since = r->state;
    r->since_what = "rollback";
    r->given = r->saved_step = r->state.step;
    r->proven = true;
    r->save_due = false;
    r->skipped_in_a_row = 0;
    r->located = false;
    r->epoch_sum = 0;
    r->epoch_steps = 0;
    r->line_sample = r->state.sample;
    r->line_time = clock_seconds();
    r->line_waited = feed_waited_seconds(r->feed);
}

static void note_rollback(run *r, const train_state *to, const char *path)
{
    const uint64_t end = r->state.sample;
    const uint64_t bad = end - r->skipped_in_a_row * (uint64_t)run_images_per_step(r);
    run_note(
        r,
        "WARNING: rollback %llu of %d: from step %llu to %s; samples %llu to %llu are left out (%llu to %llu were in "
        "skipped steps); the schedule of the learning rate is unchanged",
        (unsigned long long)r->facts.rollbacks, r->config.train.max_rollbacks, (unsigned long long)r->state.step, path,
        (unsigned long long)to->sample, (unsigned long long)end - 1, (unsigned long long)bad,
        (unsigned long long)end - 1);
}

static ddpm_status roll_back_to(run *r, const char *path, err *e)
{
    train_state state;
    checkpoint_facts then;
    TRY(checkpoint_read_state(path, &state, &then, e));
    r->facts.rollbacks++;
    if (r->state.step > r->facts.rollback_end) r->facts.rollback_end = r->state.step;
    note_rollback(r, &state, path);
    TRY(set_aside(r, state.step, e));
    state.sample = r->state.sample;
    TRY(restore(r, path, &state, e));
    begin_again(r);
    return DDPM_OK;
}

ddpm_status run_roll_back(run *r, err *e)
{
    char path[PATH_CAP];
    uint64_t at;
    err why = {0};
    if (r->facts.rollbacks >= (uint64_t)r->config.train.max_rollbacks) return run_diverged(r, e);
    const bool gave_up = r->gave_up_saving;
    r->gave_up_saving = true; /* until the trainer's state is whole again */
    r->prune_due = false;
    ddpm_status st = find_good(r, path, &at, &why);
    if (st == DDPM_ENOINPUT) return run_diverged(r, e);
    if (st == DDPM_OK) st = roll_back_to(r, path, &why);
    if (st != DDPM_OK) return err_set(e, st, "%s; resume=auto repeats the rollback", why.text);
    r->gave_up_saving = gave_up;
    return DDPM_OK;
}
