#include "cli/progress.h"
#include "base/arith.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const double redraw_seconds = 0.25, rate_memory_seconds = 30;
enum { WARMUP_STEPS = 3 };

const progress_line progress_unknown = {
    .noun = "step",
    .loss = -1,
    .grad_norm = -1,
    .lr = -1,
    .images_per_second = -1,
    .steps_per_second = -1,
    .memory_used = -1,
    .memory_total = -1,
    .bytes_written = -1,
    .share_waited = -1,
    .seconds_left = -1,
};

/* ---- the line ------------------------------------------------------------------------------------ */

__attribute__((format(printf, 2, 3))) static void append(char *out, const char *fmt, ...)
{
    const size_t used = strlen(out);
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(out + used, PROGRESS_LINE - used, fmt, ap);
    va_end(ap);
}

static int decimals(double v) { return v < 9.995 ? 2 : v < 99.95 ? 1 : 0; } /* three significant digits */

static void append_memory(char *out, double used, double total)
{
    const double gib = 1024.0 * 1024 * 1024, mib = 1024.0 * 1024;
    if (used < gib) { /* in GiB it would be "0.0" */
        append(out, "  mem %.0f", used / mib);
        if (total >= 0 && total < gib) append(out, "/%.0f", total / mib);
        append(out, " MiB");
        return;
    }
    append(out, "  mem %.1f", used / gib);
    if (total >= 0) append(out, "/%.1f", total / gib);
    append(out, " GiB");
}

void progress_format(char *out, const progress_line *line)
{
    char left[32];
    (void)snprintf(out, PROGRESS_LINE, "%.20s %lld/%lld", line->noun, (long long)line->done, (long long)line->total);
    if (line->total > 0) /* rounded down, so that 100.0% means done */
        append(out, "  %.1f%%", floor(1000 * ((double)line->done / (double)line->total)) / 10);
    if (!(line->loss < 0)) append(out, "  loss %.4f", unsigned_nan(line->loss)); /* shows NaN, too */
    if (!(line->grad_norm < 0)) append(out, "  grad %.2f", unsigned_nan(line->grad_norm));
    if (line->lr >= 0) append(out, "  lr %.1e", line->lr);
    if (line->images_per_second >= 0)
        append(out, "  %.*f img/s", decimals(line->images_per_second), line->images_per_second);
    if (line->steps_per_second >= 0)
        append(out, "  %.*f it/s", decimals(line->steps_per_second), line->steps_per_second);
    if (line->memory_used >= 0) append_memory(out, line->memory_used, line->memory_total);
    if (line->bytes_written >= 0) append(out, "  %.1f MiB written", line->bytes_written / (1024.0 * 1024));
    if (line->share_waited >= 0) append(out, "  %.1f%% waiting for the disk", 100 * line->share_waited);
    if (line->seconds_left < 0) return;
    progress_duration(left, sizeof left, line->seconds_left);
    append(out, "  ETA %s", left);
}

void progress_duration(char *out, size_t cap, double seconds)
{
    const long limit = 999L * 24 * 3600;
    if (!(seconds >= 0 && seconds <= (double)limit)) {
        (void)snprintf(out, cap, "-");
        return;
    }
    const long s = lround(seconds), m = s / 60, h = m / 60;
    if (h >= 24)
        (void)snprintf(out, cap, "%ldd %02ld:%02ld:%02ld", h / 24, h % 24, m % 60, s % 60);
    else if (h)
        (void)snprintf(out, cap, "%ld:%02ld:%02ld", h, m % 60, s % 60);
    else
        (void)snprintf(out, cap, "%ld:%02ld", m, s % 60);
}

/* ---- the rate ------------------------------------------------------------------------------------ */

void progress_rate_begin(progress_rate *r, int64_t done) { *r = (progress_rate){.first = done}; }

void progress_rate_add(progress_rate *r, double now, int64_t done)
{
    if (done < r->last_step) progress_rate_begin(r, done); /* a training that was rolled back */
    if (done - r->first < WARMUP_STEPS) return;
    if (r->warm) {
        const double elapsed = now - r->last_time, keep = exp(-elapsed / rate_memory_seconds);
        r->steps = keep * r->steps + (double)(done - r->last_step);
        r->seconds = keep * r->seconds + elapsed;
    }
    r->warm = true;
    r->last_step = done;
    r->last_time = now;
}

double progress_rate_get(const progress_rate *r) { return r->seconds > 0 ? r->steps / r->seconds : -1; }

/* ---- on the screen ------------------------------------------------------------------------------- */

static int terminal_columns(FILE *out)
{
    struct winsize size;
    return ioctl(fileno(out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

/* A write error ends the progress output but not the run. */
static void send_out(progress *p)
{
    if (fflush(p->out) != 0 || ferror(p->out)) p->out = NULL;
}

/* Overwrite the last line on the terminal with blanks, and return to its start. */
static void wipe(progress *p)
{
    if (p->width) fprintf(p->out, "\r%*s\r", p->width, "");
    p->width = 0;
}

void progress_begin(progress *p, FILE *out, double seconds, int images_per_step, double now, int64_t done)
{
    const bool terminal = out && isatty(fileno(out));
    *p = (progress){.out = out, .terminal = terminal, .begun = now, .last = now, .images_per_step = images_per_step};
    p->interval = terminal ? redraw_seconds : seconds;
    progress_rate_begin(&p->rate, done);
}

bool progress_step(progress *p, double now, int64_t done)
{
    progress_rate_add(&p->rate, now, done);
    return p->out && now - p->last >= p->interval;
}

void progress_show(progress *p, double now, progress_line line)
{
    char text[PROGRESS_LINE];
    if (!p->out) return;
    const double rate = progress_rate_get(&p->rate);
    if (rate >= 0 && line.images_per_second < 0) {
        line.steps_per_second = rate;
        if (p->images_per_step) line.images_per_second = rate * p->images_per_step;
        if (rate > 0 && line.total >= line.done) line.seconds_left = (double)(line.total - line.done) / rate;
    }
    progress_format(text, &line);
    p->last = now;
    if (!p->terminal) {
        fprintf(p->out, "%s\n", text);
    } else { /* cut: a wrapped line cannot be redrawn */
        const int cut = (int)strnlen(text, (size_t)(terminal_columns(p->out) - 1));
        const int rest = p->width > cut ? p->width - cut : 0;
        fprintf(p->out, "\r%.*s%*s", cut, text, rest, "");
        p->width = cut + rest; /* including blanks: the terminal may have become narrower */
    }
    send_out(p);
}

void progress_note(progress *p, const char *text)
{
    if (!p->out) return;
    wipe(p);
    fprintf(p->out, "%s\n", text);
    send_out(p);
}

void progress_end(progress *p)
{
    if (!p->out) return;
    if (p->width) fputc('\n', p->out);
    p->width = 0;
    send_out(p);
}
