#include "train/run_metrics.h"
#include "base/arith.h"
#include "base/mem.h"
#include "io/svg_plot.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_METRICS = 1 << 30 };

/* JSON has no NaN: non-finite numbers are written as strings. */
static int put(char *to, size_t cap, const char *key, double v)
{
    return snprintf(to, cap, isfinite(v) ? ",\"%s\":%.9g" : ",\"%s\":\"%g\"", key, unsigned_nan(v));
}

static double ratio(double sum, double count) { return count > 0 ? sum / count : NAN; }

/* The mean squared errors, of all images and by noise level. */
static int put_levels(char *to, size_t cap, const train_state *s)
{
    double error = 0, images = 0;
    for (int k = 0; k < TRAIN_LEVELS; k++) error += s->level_error[k], images += s->level_images[k];
    int n = put(to, cap, "mse", ratio(error, images));
    for (int k = 0; k < TRAIN_LEVELS; k++) {
        n += snprintf(to + n, cap - (size_t)n, "%s", k ? "," : ",\"mse_by_level\":[");
        n += s->level_images[k] > 0 ? snprintf(to + n, cap - (size_t)n, "%.6g", s->level_error[k] / s->level_images[k])
                                    : snprintf(to + n, cap - (size_t)n, "null");
    }
    return n + snprintf(to + n, cap - (size_t)n, "]");
}

void run_metrics_begin(train_state *s)
{
    s->interval_loss = 0;
    s->interval_steps = 0;
    for (int k = 0; k < TRAIN_LEVELS; k++) s->level_error[k] = s->level_images[k] = 0;
    s->interval_vb = s->interval_vb_images = 0;
}

bool run_metrics_append(line_file *f, const run_metrics *m)
{
    char line[1024];
    struct timespec now;
    const train_state *s = m->state;
    clock_gettime(CLOCK_REALTIME, &now);
    int n = snprintf(line, sizeof line, "{\"t\":%.3f,\"step\":%llu,\"kimg\":%.3f",
                     (double)now.tv_sec + 1e-9 * (double)now.tv_nsec, (unsigned long long)s->step,
                     (double)s->sample / 1000);
    n += put(line + n, sizeof line - (size_t)n, "loss",
             s->interval_steps > 0 ? s->interval_loss / (double)s->interval_steps : (double)s->loss);
    n += put_levels(line + n, sizeof line - (size_t)n, s);
    if (s->interval_vb_images > 0)
        n += put(line + n, sizeof line - (size_t)n, "vb", s->interval_vb / s->interval_vb_images);
    n += put(line + n, sizeof line - (size_t)n, "grad_norm", (double)s->grad_norm);
    n += put(line + n, sizeof line - (size_t)n, "lr", (double)s->lr);
    n += put(line + n, sizeof line - (size_t)n, "img_s", m->images_per_second);
    n += put(line + n, sizeof line - (size_t)n, "data_s", m->data_seconds);
    n += snprintf(line + n, sizeof line - (size_t)n, ",\"skipped\":%llu}\n", (unsigned long long)s->skipped);
    return line_file_append(f, line, (size_t)n);
}

/* Parse one line: its step, and its loss if that is a number.  False: not a line of metrics.jsonl. */
static bool read_line(const char *line, size_t n, double *step, double *loss)
{
    json_t *all = json_loadb(line, n, 0, NULL);
    const json_t *at = json_object_get(all, "step"), *value = json_object_get(all, "loss");
    const bool good = json_is_integer(at);
    *step = good ? (double)json_integer_value(at) : NAN;
    *loss = json_is_number(value) ? json_number_value(value) : NAN;
    json_decref(all);
    return good;
}

ddpm_status run_metrics_read(const char *path, uint64_t step, run_metrics_past *past, err *e)
{
    *past = (run_metrics_past){.kept = NULL};
    TRY(file_read(path, MAX_METRICS, &past->kept, &past->bytes, e));
    for (char *line = past->kept, *end; (end = memchr(line, '\n', past->bytes - (size_t)(line - past->kept)));
         line = end + 1) {
        double at, loss;
        const size_t n = (size_t)(end - line) + 1;
        const bool good = read_line(line, n, &at, &loss);
        past->unreadable += !good;
        past->later += good && at > (double)step;
        if (!good || at > (double)step) continue;
        memmove(past->kept + past->kept_bytes, line, n);
        past->kept_bytes += n;
    }
    return DDPM_OK;
}

typedef struct curve {
    double *step, *value, *smooth;
    int n, cap_step, cap_value, cap_smooth;
} curve;

/* The smoothed curve: a moving average over about 2% of the points, without a bias towards the start. */
static void smooth(curve *c)
{
    const double keep = 1 - 1 / (1 + 0.02 * c->n);
    double sum = 0, weight = 0;
    for (int i = 0; i < c->n; i++) {
        if (isfinite(c->value[i])) sum = sum * keep + c->value[i], weight = weight * keep + 1;
        c->smooth[i] = weight > 0 ? sum / weight : NAN;
    }
}

static ddpm_status read_curve(const char *text, size_t size, curve *c, err *e)
{
    const char *line = text;
    for (const char *end; (end = memchr(line, '\n', size - (size_t)(line - text))); line = end + 1) {
        double step, loss;
        if (!read_line(line, (size_t)(end - line), &step, &loss)) continue;
        TRY(mem_grow(&c->step, &c->cap_step, c->n + 1, sizeof(double), "loss curve", e));
        TRY(mem_grow(&c->value, &c->cap_value, c->n + 1, sizeof(double), "loss curve", e));
        TRY(mem_grow(&c->smooth, &c->cap_smooth, c->n + 1, sizeof(double), "loss curve", e));
        c->step[c->n] = step;
        c->value[c->n++] = loss;
    }
    return DDPM_OK;
}

ddpm_status run_metrics_plot(const char *metrics, const char *plot, err *e)
{
    char *text = NULL;
    size_t size;
    curve c = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(file_read(metrics, MAX_METRICS, &text, &size, e));
    TRY_GOTO(read_curve(text, size, &c, e));
    smooth(&c);
    TRY_GOTO(svg_plot_loss(plot, "Training loss",
                           &(svg_series){.n = c.n, .step = c.step, .value = c.value, .smooth = c.smooth}, e));
done:
    mem_free(text);
    free(c.step);
    free(c.value);
    free(c.smooth);
    return st;
}
