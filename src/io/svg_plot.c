#include "io/svg_plot.h"
#include "base/file.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Coordinates are integers in tenths of a pixel, so that no locale can put a comma into them. */
enum { WIDTH = 8000, HEIGHT = 4200, LEFT = 800, RIGHT = 7800, TOP = 500, BOTTOM = 3600, COLUMN = 10 };
static const double LOG_RATIO = 50.0;

typedef struct axis {
    double min, max; /* limits of the axis; log10 of the values if log */
    bool log;
    int from, to; /* the image's coordinates at min and max */
} axis;

static double scaled(const axis *a, double v) { return a->log ? log10(v) : v; }

static int place(const axis *a, double v)
{
    const double t = fmin(fmax((scaled(a, v) - a->min) / (a->max - a->min), -0.1), 1.1);
    return a->from + (int)lrint(t * (a->to - a->from));
}

/* Is the value drawn (not a gap)?  It must be finite, and small enough for finite sums and squares. */
static bool drawable(double v) { return fabs(v) < 1e100; }

/* The step of 1, 2 or 5 times a power of ten that divides `range` into about n parts. */
static double nice_step(double range, int n)
{
    const double rough = range / n, unit = pow(10.0, floor(log10(rough))), part = rough / unit;
    return unit * (part < 1.5 ? 1.0 : part < 3.5 ? 2.0 : part < 7.5 ? 5.0 : 10.0);
}

static void find_range(const double *v, int n, double *min, double *max)
{
    for (int i = 0; v && i < n; i++) {
        if (!drawable(v[i])) continue;
        if (!(*min <= v[i])) *min = v[i];
        if (!(*max >= v[i])) *max = v[i];
    }
}

static axis value_axis(const svg_series *s)
{
    double min = NAN, max = NAN;
    find_range(s->value, s->n, &min, &max);
    find_range(s->smooth, s->n, &min, &max);
    axis a = {.min = 0.0, .max = 1.0, .from = BOTTOM, .to = TOP};
    if (isnan(min)) return a;
    a.log = min > 0.0 && max / min > LOG_RATIO;
    a.min = scaled(&a, min);
    a.max = scaled(&a, max);
    const double least = fmax(fabs(a.max), 1e-300) * 1e-9;
    if (!(a.max - a.min > least)) { /* all values are equal: widen the axis */
        const double room = a.max == 0.0 ? 1.0 : fabs(a.max) / 2;
        a.min -= room;
        a.max += room;
    } else if (!a.log) {
        const double step = nice_step(a.max - a.min, 5);
        a.min = floor(a.min / step) * step;
        a.max = ceil(a.max / step) * step;
    }
    return a;
}

static axis step_axis(const svg_series *s)
{
    axis a = {.min = 0.0, .max = 1.0, .from = LEFT, .to = RIGHT};
    if (s->n == 0) return a;
    a.min = s->step[0];
    a.max = s->step[s->n - 1];
    if (a.min > 0.0 && a.min < 0.05 * a.max) a.min = 0.0;
    if (!(a.max > a.min)) {
        a.min -= 1.0;
        a.max += 1.0;
    }
    return a;
}

/* ---- drawing ---- */

static void put_label(FILE *f, int x, int y, const char *anchor, double v)
{
    const double size = fabs(v);
    if (size >= 1e6 && size < 1e12)
        (void)fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%.6gM</text>\n", x, y, anchor, v / 1e6);
    else if (size >= 1e4 && size < 1e6)
        (void)fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%.6gk</text>\n", x, y, anchor, v / 1e3);
    else
        (void)fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"%s\">%.6g</text>\n", x, y, anchor, v);
}

static void put_value_tick(FILE *f, const axis *y, double v)
{
    const int at = place(y, v);
    if (at > BOTTOM + 1 || at < TOP - 1) return;
    (void)fprintf(f, "<path class=\"grid\" d=\"M%d %dH%d\"/>\n", LEFT, at, RIGHT);
    put_label(f, LEFT - 100, at + 45, "end", v);
}

static void put_value_ticks(FILE *f, const axis *y)
{
    if (!y->log) {
        const double step = nice_step(y->max - y->min, 5);
        for (int i = 0; i <= 12; i++) {
            const double v = (ceil(y->min / step - 1e-6) + i) * step;
            put_value_tick(f, y, fabs(v) < step * 1e-6 ? 0.0 : v);
        }
        return;
    }
    const double decades = y->max - y->min;
    const int stride = (int)ceil(decades / 10); /* 1 unless the range is extreme */
    for (int k = (int)floor(y->min); k <= (int)ceil(y->max); k += stride) {
        put_value_tick(f, y, pow(10.0, k));
        if (decades > 4) continue;
        put_value_tick(f, y, 2 * pow(10.0, k));
        put_value_tick(f, y, 5 * pow(10.0, k));
    }
}

static void put_step_ticks(FILE *f, const axis *x)
{
    const double step = fmax(nice_step(x->max - x->min, 7), 1.0);
    for (int i = 0; i <= 16; i++) {
        const double v = (ceil(x->min / step - 1e-6) + i) * step;
        const int at = place(x, v);
        if (at > RIGHT + 1) break;
        (void)fprintf(f, "<path class=\"axis\" d=\"M%d %dv60\"/>\n", at, BOTTOM);
        put_label(f, at, BOTTOM + 210, "middle", v);
    }
}

typedef struct column { /* the finite points of one pixel column */
    int at, lowest, highest;
    bool any;
} column;

static void put_column(FILE *f, const column *c, bool *drawing)
{
    if (!c->any) return;
    (void)fprintf(f, *drawing ? "L%d %d" : "M%d %dh1", c->at, c->lowest); /* h1: draws a single point as a dot */
    if (c->highest != c->lowest) (void)fprintf(f, "V%d", c->highest);
    *drawing = true;
}

static void put_line(FILE *f, const char *class, const svg_series *s, const double *v, const axis axes[2])
{
    const bool dense = s->n > (RIGHT - LEFT) / COLUMN;
    bool drawing = false;
    column c = {0};
    (void)fprintf(f, "<path class=\"%s\" d=\"", class);
    for (int i = 0; i < s->n; i++) {
        if (!drawable(v[i])) {
            if (dense) continue; /* the column's other points represent it */
            drawing = false;
            continue;
        }
        int at = place(&axes[0], s->step[i]);
        if (dense) at = at / COLUMN * COLUMN;
        const int y = place(&axes[1], v[i]);
        if (c.any && dense && at == c.at) {
            if (y > c.lowest) c.lowest = y;
            if (y < c.highest) c.highest = y;
            continue;
        }
        put_column(f, &c, &drawing);
        if (dense && c.any && at > c.at + 2 * COLUMN) drawing = false; /* an empty column is a gap */
        c = (column){at, y, y, true};
        if (dense) continue;
        put_column(f, &c, &drawing);
        c.any = false;
    }
    put_column(f, &c, &drawing);
    (void)fprintf(f, "\"/>\n");
}

/* Write text with XML escapes; control characters and invalid UTF-8 become '?'. */
static void put_escaped(FILE *f, const char *text)
{
    json_t *checked = json_string(text);
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '&' || c == '<' || c == '>')
            (void)fprintf(f, "&#%d;", c);
        else
            (void)fputc(c < ' ' || (c >= 0x7f && !checked) ? '?' : c, f);
    }
    json_decref(checked);
}

static void put_frame(FILE *f, const char *title)
{
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"800\" height=\"420\" viewBox=\"0 0 %d %d\">\n"
                  "<style>text{font:130px sans-serif;fill:#333}.title{font-size:170px;font-weight:bold}"
                  ".grid{stroke:#ddd;stroke-width:8}.axis{stroke:#333;stroke-width:10}"
                  ".raw,.smooth{fill:none;stroke-linejoin:round;stroke-linecap:round}"
                  ".raw{stroke:#9cc4e4;stroke-width:12}.smooth{stroke:#0b4f8a;stroke-width:24}</style>\n"
                  "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n"
                  "<text class=\"title\" x=\"%d\" y=\"300\" text-anchor=\"middle\">",
                  WIDTH, HEIGHT, WIDTH, HEIGHT, (LEFT + RIGHT) / 2);
    put_escaped(f, title);
    (void)fprintf(f, "</text>\n<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">step</text>\n", (LEFT + RIGHT) / 2,
                  BOTTOM + 460);
}

static void draw(FILE *f, const char *title, const svg_series *s)
{
    const axis axes[2] = {step_axis(s), value_axis(s)};
    put_frame(f, title);
    if (s->n > 0) {
        put_value_ticks(f, &axes[1]);
        put_step_ticks(f, &axes[0]);
        put_line(f, "raw", s, s->value, axes);
        if (s->smooth) put_line(f, "smooth", s, s->smooth, axes);
    } else {
        (void)fprintf(f, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">no data yet</text>\n", (LEFT + RIGHT) / 2,
                      (TOP + BOTTOM) / 2);
    }
    (void)fprintf(f, "<path class=\"axis\" fill=\"none\" d=\"M%d %dV%dH%d\"/>\n</svg>\n", LEFT, TOP, BOTTOM, RIGHT);
}

ddpm_status svg_plot_loss(const char *path, const char *title, const svg_series *s, err *e)
{
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    if (!f) return err_errno(e, DDPM_ENOMEM, errno, "%s: out of memory for the plot", path);
    draw(f, title, s);
    const bool failed = ferror(f) != 0;
    ddpm_status st = fclose(f) || failed ? err_set(e, DDPM_ENOMEM, "%s: out of memory for the plot", path) : DDPM_OK;
    if (st == DDPM_OK) st = file_replace(path, text, size, e);
    free(text);
    return st;
}
