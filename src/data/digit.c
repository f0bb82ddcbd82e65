#include "data/digit.h"

#include "data/digit_strokes.h"
#include "noise.h"
#include <math.h>
#include <stdbool.h>
#include <string.h>

typedef struct point {
    double x, y;
} point;

/* The sequence of random numbers of one image. */
typedef struct dice {
    uint64_t seed, index;
    philox4 words;
    uint32_t drawn;
} dice;

static uint32_t dice_word(dice *d)
{
    if (d->drawn % 4 == 0)
        d->words = noise_bits(d->seed, NOISE_DIGITS, (uint32_t)d->index, (uint32_t)(d->index >> 32), d->drawn / 4);
    return d->words.v[d->drawn++ % 4];
}

/* Uniform in [lo, hi). */
static double dice_in(dice *d, double lo, double hi) { return lo + (hi - lo) * (double)noise_uniform(dice_word(d)); }

static const double RADIUS_MIN = 0.75; /* pixels: thinner lines would fade between two columns */

/* A random handwriting style as a distortion of the plane: p -> rotate(scale(p) + slant + bend). */
typedef struct hand {
    double scale_x, scale_y, slant, cos, sin;
    double bend_x[3], bend_y[3]; /* coefficients of x^2, x y, y^2 */
    double shake;                /* independent displacement of every point of a stroke */
} hand;

static hand hand_make(dice *d)
{
    hand h = {.shake = 0.02};
    h.scale_x = dice_in(d, 0.82, 1.18);
    h.scale_y = dice_in(d, 0.9, 1.1);
    h.slant = dice_in(d, -0.08, 0.32);
    const double t = dice_in(d, -0.07, 0.07); /* tan of half the angle: gives cos and sin without libm */
    h.cos = (1.0 - t * t) / (1.0 + t * t);
    h.sin = 2.0 * t / (1.0 + t * t);
    for (int i = 0; i < 3; i++) {
        h.bend_x[i] = dice_in(d, -0.16, 0.16);
        h.bend_y[i] = dice_in(d, -0.16, 0.16);
    }
    return h;
}

static point hand_apply(const hand *h, point p)
{
    const double xx = p.x * p.x, xy = p.x * p.y, yy = p.y * p.y;
    const double x = h->scale_x * p.x - h->slant * p.y + h->bend_x[0] * xx + h->bend_x[1] * xy + h->bend_x[2] * yy;
    const double y = h->scale_y * p.y + h->bend_y[0] * xx + h->bend_y[1] * xy + h->bend_y[2] * yy;
    return (point){h->cos * x - h->sin * y, h->sin * x + h->cos * y};
}

enum { PIECE_STEPS = 10, PATH_MAX_POINTS = STROKES_MAX * (STROKE_POINTS_MAX / 3 * PIECE_STEPS + 1) };

typedef struct path {
    point at[PATH_MAX_POINTS];
    bool starts[PATH_MAX_POINTS]; /* the point begins a stroke */
    int n;
} path;

static void path_add(path *p, point at, bool starts)
{
    p->at[p->n] = at;
    p->starts[p->n++] = starts;
}

static double bezier(double a, double b, double c, double d, double t)
{
    const double u = 1.0 - t;
    return u * u * u * a + 3.0 * u * u * t * b + 3.0 * u * t * t * c + t * t * t * d;
}

static void path_stroke(path *p, const stroke *s, const hand *h, dice *d)
{
    point at[STROKE_POINTS_MAX];
    for (int i = 0; i <= 3 * s->pieces; i++) {
        const double dx = dice_in(d, -h->shake, h->shake), dy = dice_in(d, -h->shake, h->shake);
        at[i] = (point){s->points[i][0] * 0.01 + dx, s->points[i][1] * 0.01 + dy};
    }
    path_add(p, hand_apply(h, at[0]), true);
    for (const point *q = at; q < at + 3 * s->pieces; q += 3)
        for (int k = 1; k <= PIECE_STEPS; k++) {
            const double t = k / (double)PIECE_STEPS;
            const point on = {bezier(q[0].x, q[1].x, q[2].x, q[3].x, t), bezier(q[0].y, q[1].y, q[2].y, q[3].y, t)};
            path_add(p, hand_apply(h, on), false);
        }
}

/* Scale the path to pixels and centre it with a small random offset; it is shrunk if it would touch the outermost
 * pixels. */
static void path_place(path *p, int side, double radius, dice *d)
{
    point lo = p->at[0], hi = p->at[0];
    for (int i = 1; i < p->n; i++) {
        lo.x = fmin(lo.x, p->at[i].x), hi.x = fmax(hi.x, p->at[i].x);
        lo.y = fmin(lo.y, p->at[i].y), hi.y = fmax(hi.y, p->at[i].y);
    }
    const double size = fmax(hi.x - lo.x, hi.y - lo.y), room = side - 2.0 * radius - 2.0;
    double scale = dice_in(d, 0.66, 0.76) * side;
    if (size * scale > room) scale = room / size;
    const double slack_x = 0.5 * (room - (hi.x - lo.x) * scale), slack_y = 0.5 * (room - (hi.y - lo.y) * scale);
    const double move_x = fmin(slack_x, 0.07 * side) * dice_in(d, -1.0, 1.0);
    const double move_y = fmin(slack_y, 0.07 * side) * dice_in(d, -1.0, 1.0);
    for (int i = 0; i < p->n; i++) {
        p->at[i].x = (p->at[i].x - 0.5 * (lo.x + hi.x)) * scale + 0.5 * side + move_x;
        p->at[i].y = (p->at[i].y - 0.5 * (lo.y + hi.y)) * scale + 0.5 * side + move_y;
    }
}

/* Distance from p to the line segment from a to b. */
static double distance(point p, point a, point b)
{
    const double bx = b.x - a.x, by = b.y - a.y, px = p.x - a.x, py = p.y - a.y, length2 = bx * bx + by * by;
    double t = length2 > 0.0 ? (px * bx + py * by) / length2 : 0.0;
    if (t < 0.0) t = 0.0;
    if (t > 1.0) t = 1.0;
    const double dx = px - t * bx, dy = py - t * by;
    return sqrt(dx * dx + dy * dy);
}

static int clamp(double v, int hi) { return v < 0.0 ? 0 : v > hi ? hi : (int)v; }

/* Draw from a to b with a round pen of `radius` pixels, with an antialiased edge: white from half a pixel inside it,
 * black from half a pixel outside. */
static void draw_line(uint8_t *pixels, int side, point a, point b, double radius)
{
    const double reach = radius + 1.0;
    const int left = clamp(fmin(a.x, b.x) - reach, side - 1), right = clamp(fmax(a.x, b.x) + reach, side - 1);
    const int top = clamp(fmin(a.y, b.y) - reach, side - 1), bottom = clamp(fmax(a.y, b.y) + reach, side - 1);
    for (int y = top; y <= bottom; y++)
        for (int x = left; x <= right; x++) {
            uint8_t *to = pixels + (int64_t)y * side + x;
            const double cover = radius + 0.5 - distance((point){x + 0.5, y + 0.5}, a, b);
            const int white = cover <= 0.0 ? 0 : cover >= 1.0 ? 255 : (int)(255.0 * cover + 0.5);
            if (white > *to) *to = (uint8_t)white;
        }
}

void digit_draw(uint64_t seed, uint64_t index, int digit, int side, uint8_t *pixels)
{
    dice d = {.seed = seed, .index = index};
    path p = {.n = 0};
    const stroke *s = STROKES[digit][dice_word(&d) % DIGIT_VARIANTS];
    const hand h = hand_make(&d);
    const double pen = dice_in(&d, 0.032, 0.056) * side, radius = pen > RADIUS_MIN ? pen : RADIUS_MIN;
    for (int k = 0; k < STROKES_MAX && s[k].pieces; k++) path_stroke(&p, &s[k], &h, &d);
    path_place(&p, side, radius, &d);
    memset(pixels, 0, (size_t)side * (size_t)side);
    for (int i = 1; i < p.n; i++)
        if (!p.starts[i]) draw_line(pixels, side, p.at[i - 1], p.at[i], radius);
}
