/* skip_report.c - what a training says of a step whose loss or gradient is not finite: the first layer that computed such
 * a value, and in RUN/skipped.jsonl the images that the step saw. */
#include "train/run_parts.h"
#include "base/arith.h"
#include "base/mem.h"
#include "io/json_out.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    REPORTED_SINGLY = 10, /* consecutive skipped steps; then only at powers of 2 */
    MOST_LINES = 1000,    /* of skipped.jsonl */
    MOST_BYTES = 16 << 20
};

/* ---- the layer ----------------------------------------------------------------------------------- */

static train_state state_before(const run *r, const train_state *now)
{
    train_state before = *now;
    before.step = r->state.step - 1;
    before.sample = r->state.sample - (uint64_t)run_images_per_step(r);
    before.loss_sum = 0;
    return before;
}

/* Repeat the micro-batches of the step, one layer at a time, until a value is not finite. */
static ddpm_status repeat_step(run *r, train_state before, const plan_finding *found, err *e)
{
    TRY(feed_seek(r->feed, before.sample, e));
    for (int i = 0; i < r->config.train.gradient_accumulation_steps && !found->s; i++) {
        TRY(trainer_restore(r->trainer, &before, e));
        TRY(feed_micro_batch(r->feed, e));
        before.sample += (uint64_t)r->config.train.batch;
    }
    return DDPM_OK;
}

/* Weights and state are afterwards what they were, and the feed continues where it was. */
static ddpm_status locate(run *r, char *text, size_t cap, err *e)
{
    train_state now;
    plan_finding found = {.s = NULL};
    err why = {0};
    TRY(trainer_state(r->trainer, &now, e));
    trainer_watch(r->trainer, &found);
    const ddpm_status st = repeat_step(r, state_before(r, &now), &found, &why);
    TRY(trainer_unwatch(r->trainer, &now, e));
    TRY(feed_seek(r->feed, now.sample, e));
    if (st != DDPM_OK)
        (void)snprintf(text, cap, "; the step could not be repeated to locate it: %s", why.text);
    else if (!found.s)
        (void)snprintf(text, cap, "; every layer's output and gradient is finite, only their sum is not");
    else {
        (void)snprintf(text, cap, "; first non-finite values: ");
        plan_finding_text(&found, text + strlen(text), cap - strlen(text));
    }
    return DDPM_OK;
}

/* ---- the images ---------------------------------------------------------------------------------- */

/* JSON has no NaN; printf would print its meaningless sign. */
static void put_real(json_out *j, const char *key, float v)
{
    if (isfinite(v))
        json_out_real(j, key, (double)v);
    else
        json_out_text(j, key, isnan(v) ? "nan" : v < 0 ? "-inf" : "inf");
}

/* A file name that is not UTF-8 is written as null. */
static void put_file(json_out *j, const char *file)
{
    json_t *text = json_string(file);
    json_out_text(j, NULL, text ? file : NULL);
    json_decref(text);
}

static ddpm_status make_line(const run *r, char **line, size_t *size, err *e)
{
    const uint64_t n = (uint64_t)run_images_per_step(r), first = r->state.sample - n;
    const int64_t count = dataset_count(r->data);
    json_out j = json_out_begin(true, e);
    json_out_open(&j, NULL, '{');
    json_out_int(&j, "step", (int64_t)r->state.step);
    put_real(&j, "loss", r->state.loss);
    put_real(&j, "grad_norm", r->state.grad_norm);
    json_out_int(&j, "first_sample", (int64_t)first);
    json_out_int(&j, "last_sample", (int64_t)(r->state.sample - 1));
    json_out_open(&j, "images", '[');
    for (uint64_t i = 0; i < n; i++)
        json_out_int(&j, NULL, loader_image_index(r->state.seed, count, first + i, r->config.data.shuffle));
    json_out_close(&j, ']');
    if (dataset_file(r->data, 0)) {
        json_out_open(&j, "files", '[');
        for (uint64_t i = 0; i < n; i++)
            put_file(
                &j, dataset_file(r->data, loader_image_index(r->state.seed, count, first + i, r->config.data.shuffle)));
        json_out_close(&j, ']');
    }
    json_out_close(&j, '}');
    return json_out_finish(&j, line, size);
}

/* Is there room for the line in a file of this text?  No if the line is there already: a run that was killed repeats
 * the steps since its last checkpoint. */
static bool wants(const char *text, size_t size, const char *line, size_t n)
{
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) lines++;
    return lines < MOST_LINES && size + n < MOST_BYTES && !strstr(text, line);
}

/* line[n], and at line[n] a final 0 that becomes the newline. */
static ddpm_status append_line(const char *path, char *line, size_t n, err *e)
{
    char *text = NULL;
    size_t size;
    line_file f;
    TRY(line_file_open(&f, path, e));
    ddpm_status st = file_read(path, MOST_BYTES, &text, &size, e);
    if (st == DDPM_OK && wants(text, size, line, n)) {
        line[n] = '\n';
        if (!line_file_append(&f, line, n + 1)) st = err_set(e, DDPM_EIO, "%s: cannot be written", path);
    }
    mem_free(text);
    line_file_close(&f);
    return st;
}

static ddpm_status write_images(const run *r, err *e)
{
    char path[PATH_CAP], *line = NULL;
    size_t n;
    TRY(run_folder_file(&r->folder, "skipped.jsonl", path, e));
    TRY(make_line(r, &line, &n, e));
    const ddpm_status st = append_line(path, line, n, e);
    free(line);
    return st;
}

/* ---- the warning --------------------------------------------------------------------------------- */

ddpm_status run_report_skip(run *r, bool unchanged, err *e)
{
    char where[720] = "";
    err why = {0};
    const uint64_t n = r->skipped_in_a_row + 1;
    if (unchanged && !r->located) {
        r->located = true;
        TRY(locate(r, where, sizeof where, e));
    }
    if (n <= REPORTED_SINGLY || (n & (n - 1)) == 0 || where[0])
        run_note(r, "WARNING: step %llu was skipped: loss %g, gradient norm %g (%llu skipped so far)%s",
                 (unsigned long long)r->state.step, unsigned_nan((double)r->state.loss),
                 unsigned_nan((double)r->state.grad_norm), (unsigned long long)r->state.skipped, where);
    if (write_images(r, &why) != DDPM_OK && n == 1) run_note(r, "WARNING: %s", why.text);
    return DDPM_OK;
}
