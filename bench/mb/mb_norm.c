/* mb_norm.c - mb2: group normalization and SiLU, forward and backward, in bytes per second. */
#include "base/clock.h"
#include "mb.h"
#include "ir/operands.h"
#include "predictions.h"

#include <math.h>
#include <stdio.h>

enum { ROWS = 64, GROUPS_CHECKED = 3, PLACES_CHECKED = 8, CHANNELS_CHECKED = 2 };

typedef struct norm_shape {
    int64_t n, h, w, c1, c2;
    int groups;
    float eps;
    bool silu, cond;
} norm_shape;

static tensor *build_norm(plan *p, const void *shape, tensor *in[OP_INPUTS])
{
    const norm_shape *s = shape;
    in[0] = plan_input(p, p->be->act, "x", s->n, s->h, s->w, s->c1);
    in[1] = s->c2 ? plan_input(p, p->be->act, "x2", s->n, s->h, s->w, s->c2) : NULL;
    in[2] = s->cond ? plan_input(p, p->be->act, "cond", s->n, 1, 1, s->c1 + s->c2) : NULL;
    return nn_norm_act(p, &(nn_norm_args){.x = in[0],
                                          .x2 = in[1],
                                          .cond = in[2],
                                          .kind = s->cond ? COND_ADD : COND_NONE,
                                          .groups = s->groups,
                                          .eps = (double)s->eps,
                                          .silu = s->silu,
                                          .name = "norm"});
}

/* ---- the reference: Wu & He 2018, one group at a time, in double ---- */

typedef struct reference {
    const norm_shape *s;
    dtype d;
    fill gamma, beta;
} reference;

static double x_at(const reference *f, int64_t n, int64_t hw, int64_t c)
{
    const norm_shape *s = f->s;
    const int64_t pixel = n * s->h * s->w + hw;
    const double x = c < s->c1 ? mb_value(0, pixel * s->c1 + c, f->d) : mb_value(1, pixel * s->c2 + c - s->c1, f->d);
    return s->cond ? x + mb_value(2, n * (s->c1 + s->c2) + c, f->d) : x;
}

typedef struct moments {
    double mean, rstd;
} moments;

static int64_t width(const norm_shape *s) { return (s->c1 + s->c2) / s->groups; }

static moments moments_of(const reference *f, int64_t n, int g)
{
    const norm_shape *s = f->s;
    const int64_t wide = width(s), hw = s->h * s->w;
    double sum = 0, square = 0;
    for (int64_t i = 0; i < hw; i++)
        for (int64_t c = g * wide; c < (g + 1) * wide; c++) sum += x_at(f, n, i, c);
    const double mean = sum / (double)(hw * wide);
    for (int64_t i = 0; i < hw; i++)
        for (int64_t c = g * wide; c < (g + 1) * wide; c++) square += pow(x_at(f, n, i, c) - mean, 2);
    return (moments){mean, 1 / sqrt(square / (double)(hw * wide) + (double)s->eps)};
}

static double silu(double v) { return v / (1 + exp(-v)); }
static double silu_slope(double v) { return (1 + v * (1 - 1 / (1 + exp(-v)))) / (1 + exp(-v)); }

typedef struct point {
    double xhat, y, dnorm; /* dnorm: gradient of the activation's input */
} point;

static point point_at(const reference *f, moments m, int64_t n, int64_t hw, int64_t c)
{
    const norm_shape *s = f->s;
    const double dy = mb_value(STREAM_DY, (n * s->h * s->w + hw) * (s->c1 + s->c2) + c, f->d);
    const double xhat = (x_at(f, n, hw, c) - m.mean) * m.rstd;
    const double v = mb_filled(f->gamma, c, DTYPE_F32) * xhat + mb_filled(f->beta, c, DTYPE_F32);
    return (point){xhat, s->silu ? silu(v) : v, s->silu ? dy * silu_slope(v) : dy};
}

/* ---- comparison of the op with the reference ---- */

typedef struct found {
    agreement y, dx, dgamma;
} found;

static ddpm_status check_group(const reference *f, const op_bench *b, int64_t n, int g, found *out, err *e)
{
    const norm_shape *s = f->s;
    const int64_t wide = width(s), hw = s->h * s->w, c_all = s->c1 + s->c2;
    const moments m = moments_of(f, n, g);
    double sum = 0, with_xhat = 0;
    for (int64_t i = 0; i < hw; i++)
        for (int64_t c = g * wide; c < (g + 1) * wide; c++) {
            const point p = point_at(f, m, n, i, c);
            const double scaled = p.dnorm * mb_filled(f->gamma, c, DTYPE_F32);
            sum += scaled, with_xhat += scaled * p.xhat;
        }
    sum /= (double)(hw * wide), with_xhat /= (double)(hw * wide);
    for (int k = 0; k < PLACES_CHECKED; k++) {
        const int64_t i = mb_pick(k, hw), c = g * wide + mb_pick(k + 3, wide);
        const point p = point_at(f, m, n, i, c);
        const tensor *x = b->in[c < s->c1 ? 0 : 1];
        const int64_t at = (n * hw + i) * x->c + (c < s->c1 ? c : c - s->c1);
        double got;
        TRY(mb_read(b->be, b->y->data, b->y->dtype, (n * hw + i) * c_all + c, &got, e));
        agree(&out->y, got, p.y);
        TRY(mb_read(b->be, x->grad->data, x->grad->dtype, at, &got, e));
        agree(&out->dx, got, m.rstd * (p.dnorm * mb_filled(f->gamma, c, DTYPE_F32) - sum - p.xhat * with_xhat));
    }
    return DDPM_OK;
}

static ddpm_status check_channel(const reference *f, const op_bench *b, int64_t c, agreement *dgamma, err *e)
{
    const norm_shape *s = f->s;
    const tensor *gamma = op_param(b, 0), *beta = op_param(b, 1);
    double scale = 0, shift = 0, got;
    for (int64_t n = 0; n < s->n; n++) {
        const moments m = moments_of(f, n, (int)(c / width(s)));
        for (int64_t i = 0; i < s->h * s->w; i++) {
            const point p = point_at(f, m, n, i, c);
            scale += p.dnorm * p.xhat, shift += p.dnorm;
        }
    }
    TRY(mb_read(b->be, gamma->grad->data, DTYPE_F32, c, &got, e));
    agree(dgamma, got, scale);
    TRY(mb_read(b->be, beta->grad->data, DTYPE_F32, c, &got, e));
    agree(dgamma, got, shift);
    return DDPM_OK;
}

static ddpm_status check(mb_run *r, const norm_shape *s, op_bench *b, bool *good, err *e)
{
    const reference f = {s, b->y->dtype, op_param_fill(op_param(b, 0), 0), op_param_fill(op_param(b, 1), 1)};
    found got = {.y = {0}};
    TRY(op_run_first(b, e));
    for (int k = 0; k < GROUPS_CHECKED; k++)
        TRY(check_group(&f, b, mb_pick(k, s->n), (int)mb_pick(k + 1, s->groups), &got, e));
    for (int k = 0; k < CHANNELS_CHECKED; k++) TRY(check_channel(&f, b, mb_pick(k, s->c1 + s->c2), &got.dgamma, e));
    const double tolerance = mb_tolerance(f.d, false);
    *good = mb_check(r, "error_y", &got.y, tolerance);
    *good &= mb_check(r, "error_dx", &got.dx, tolerance);
    *good &= mb_check(r, "error_dgamma", &got.dgamma, tolerance);
    return DDPM_OK;
}

/* ---- timing ---- */

static void put_rate(mb_run *r, const char *key, double moved_gb, const timing *t)
{
    const double rate = moved_gb / (t->median * 1e-3), peak = r->peak_gb > 0 ? r->peak_gb : PEAK_GB;
    char name[48];
    timing_put(&r->json, key, t);
    (void)snprintf(name, sizeof name, "%s_gb_s", key);
    json_out_real(&r->json, name, rate);
    (void)snprintf(name, sizeof name, "%s_share_of_copy", key);
    json_out_real(&r->json, name, rate / peak);
    printf("  %s %8.4f ms %7.0f GB/s (%3.0f%%)", key, t->median, rate, 100 * rate / peak);
}

static ddpm_status row(mb_run *r, const char *name, const norm_shape *s, err *e)
{
    op_bench b;
    op_times times;
    bool good;
    ddpm_status st = DDPM_OK;
    TRY(op_create(r->be, build_norm, s, &b, e));
    json_out_open(&r->json, NULL, '{');
    json_out_text(&r->json, "shape", name);
    TRY_GOTO(check(r, s, &b, &good, e));
    TRY_GOTO(op_time(r, &b, &times, e));
    const double element_gb = 1e-9 * (double)(tensor_count(b.y) * (int64_t)dtype_size(b.y->dtype));
    printf("%-44s%s", name, good ? "" : " WRONG");
    put_rate(r, "forward", NORM_FORWARD_MOVES * element_gb, &times.forward);
    put_rate(r, "backward", NORM_BACKWARD_MOVES * element_gb, &times.backward);
    printf("\n");
    json_out_real(&r->json, "predicted_share", NORM_SHARE);
done:
    json_out_close(&r->json, '}');
    op_destroy(&b);
    return st;
}

ddpm_status mb_norm(mb_run *r, err *e)
{
    plan *net = NULL;
    model *m = NULL;
    const step *seen[ROWS];
    int rows = 0;
    ddpm_status st = DDPM_OK;
    json_out_open(&r->json, "rows", '[');
    TRY_GOTO(net_list(r, &net, &m, e));
    for (int i = 0; i < net->n_forward && rows < ROWS; i++) {
        const step *s = net->steps[i];
        bool known = s->op != OP_norm_act || s->a.norm.cond == COND_SCALE_SHIFT;
        for (int k = 0; k < rows && !known; k++) known = same_step(seen[k], s);
        if (known) continue;
        seen[rows++] = s;
        const tensor *x = s->in[NORM_X], *x2 = s->in[NORM_X2];
        const norm_shape shape = {x->n,          x->h,           x->w,
                                  x->c,          x2 ? x2->c : 0, s->a.norm.groups,
                                  s->a.norm.eps, s->a.norm.silu, s->in[NORM_COND] != NULL};
        char name[80];
        (void)snprintf(name, sizeof name, "%lldx%lldx%lldx%lld+%lld%s%s", (long long)x->n, (long long)x->h,
                       (long long)x->w, (long long)x->c, (long long)shape.c2, shape.silu ? " silu" : "",
                       shape.cond ? " cond" : "");
        if (mb_wanted(r, name)) TRY_GOTO(row(r, name, &shape, e));
    }
done:
    json_out_close(&r->json, ']');
    plan_destroy(net);
    model_destroy(m);
    return st;
}
