#include "train/run_folder.h"
#include "core/clock.h"
#include "core/mem.h"
#include "io/svg_plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_METRICS = 1 << 30 };

ddpm_status run_folder_file(const run_folder *r, const char *name, char *out, err *e)
{
    return path_join(out, r->path, name, e);
}

static ddpm_status open_in(const run_folder *r, const char *name, int flags, int *fd, err *e)
{
    char path[PATH_CAP];
    TRY(run_folder_file(r, name, path, e));
    *fd = open(path, flags | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (*fd < 0) return err_errno(e, DDPM_EIO, errno, "%s: cannot open", path);
    return DDPM_OK;
}

ddpm_status run_folder_open(run_folder *r, const char *path, err *e)
{
    memset(r, 0, sizeof *r);
    r->lock = FOLDER_LOCK_NONE;
    r->log = r->metrics = -1;
    if (!path[0]) return err_set(e, DDPM_EINVAL, "out: a run needs a folder, e.g. out=runs/first");
    if (strlen(path) >= sizeof r->path) return err_set(e, DDPM_EINVAL, "out: path too long: %.80s...", path);
    memcpy(r->path, path, strlen(path) + 1);
    TRY(dir_make(path, e));
    TRY(folder_lock_take(&r->lock, path, "training", e));
    TRY(open_in(r, "log.txt", O_WRONLY | O_APPEND, &r->log, e));
    return open_in(r, "metrics.jsonl", O_RDWR | O_APPEND, &r->metrics, e);
}

void run_folder_close(run_folder *r)
{
    if (r->metrics >= 0) close(r->metrics);
    if (r->log >= 0) close(r->log);
    folder_lock_release(&r->lock);
    r->log = r->metrics = -1;
}

/* The number after "key": in a line, or NaN. */
static double field(const char *line, const char *key)
{
    const char *at = strstr(line, key);
    char *end;
    if (!at) return NAN;
    at += strlen(key);
    const double v = strtod(at, &end);
    return end == at ? NAN : v;
}

static ddpm_status read_metrics(const run_folder *r, char **text, size_t *size, err *e)
{
    char path[PATH_CAP];
    TRY(run_folder_file(r, "metrics.jsonl", path, e));
    return file_read(path, MAX_METRICS, text, size, e);
}

ddpm_status run_folder_rewind(run_folder *r, uint64_t step, err *e)
{
    char *text;
    size_t size, keep = 0;
    TRY(read_metrics(r, &text, &size, e));
    while (keep < size) {
        const char *end = memchr(text + keep, '\n', size - keep);
        if (!end || !(field(text + keep, "\"step\":") <= (double)step)) break; /* cut short by a crash, or later */
        keep = (size_t)(end - text) + 1;
    }
    mem_free(text);
    if (ftruncate(r->metrics, (off_t)keep))
        return err_errno(e, DDPM_EIO, errno, "%s/metrics.jsonl: cannot cut", r->path);
    return DDPM_OK;
}

static bool append(int fd, const char *text, int n) { return n > 0 && write(fd, text, (size_t)n) == n; }

void run_folder_log(run_folder *r, const char *text)
{
    char line[1200], stamp[40];
    const time_t now = time(NULL);
    struct tm parts;
    if (r->log < 0) return;
    (void)strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &parts));
    const int n = snprintf(line, sizeof line, "%s %s\n", stamp, text);
    (void)append(r->log, line, n < (int)sizeof line ? n : (int)sizeof line - 1);
}

/* JSON has no NaN: it is written as a text. */
static int put(char *to, size_t cap, const char *key, double v)
{
    return snprintf(to, cap, isfinite(v) ? ",\"%s\":%.9g" : ",\"%s\":\"%g\"", key, v);
}

bool run_folder_metrics(run_folder *r, const run_metrics *m)
{
    char line[512];
    struct timespec now;
    const train_state *s = m->state;
    clock_gettime(CLOCK_REALTIME, &now);
    int n = snprintf(line, sizeof line, "{\"t\":%.3f,\"step\":%llu,\"kimg\":%.3f",
                     (double)now.tv_sec + 1e-9 * (double)now.tv_nsec, (unsigned long long)s->step,
                     (double)s->sample / 1000);
    n += put(line + n, sizeof line - (size_t)n, "loss", (double)s->loss);
    n += put(line + n, sizeof line - (size_t)n, "grad_norm", (double)s->grad_norm);
    n += put(line + n, sizeof line - (size_t)n, "lr", (double)s->lr);
    n += put(line + n, sizeof line - (size_t)n, "img_s", m->images_per_second);
    n += put(line + n, sizeof line - (size_t)n, "data_s", m->data_seconds);
    n += snprintf(line + n, sizeof line - (size_t)n, ",\"skipped\":%llu}\n", (unsigned long long)s->skipped);
    if (!append(r->metrics, line, n)) r->metrics_failed = true;
    return !r->metrics_failed;
}

typedef struct curve {
    double *step, *value, *smooth;
    int n, cap_step, cap_value, cap_smooth;
} curve;

/* The strong line: an average over about the last 2% of the points, without a bias towards the start. */
static void smooth(curve *c)
{
    const double keep = 1 - 1 / (1 + 0.02 * c->n);
    double sum = 0, weight = 0;
    for (int i = 0; i < c->n; i++) {
        if (isfinite(c->value[i])) sum = sum * keep + c->value[i], weight = weight * keep + 1;
        c->smooth[i] = weight > 0 ? sum / weight : NAN;
    }
}

static ddpm_status read_curve(char *text, curve *c, err *e)
{
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        const double step = field(line, "\"step\":");
        if (!isfinite(step)) continue;
        TRY(mem_grow(&c->step, &c->cap_step, c->n + 1, sizeof(double), "loss curve", e));
        TRY(mem_grow(&c->value, &c->cap_value, c->n + 1, sizeof(double), "loss curve", e));
        TRY(mem_grow(&c->smooth, &c->cap_smooth, c->n + 1, sizeof(double), "loss curve", e));
        c->step[c->n] = step;
        c->value[c->n++] = field(line, "\"loss\":");
    }
    return DDPM_OK;
}

ddpm_status run_folder_plot(const run_folder *r, err *e)
{
    char *text = NULL, path[PATH_CAP];
    size_t size;
    curve c = {0};
    ddpm_status st = DDPM_OK;
    TRY_GOTO(read_metrics(r, &text, &size, e));
    TRY_GOTO(read_curve(text, &c, e));
    smooth(&c);
    TRY_GOTO(run_folder_file(r, "loss.svg", path, e));
    TRY_GOTO(svg_plot_loss(path, "Training loss",
                           &(svg_series){.n = c.n, .step = c.step, .value = c.value, .smooth = c.smooth}, e));
done:
    mem_free(text);
    free(c.step);
    free(c.value);
    free(c.smooth);
    return st;
}
