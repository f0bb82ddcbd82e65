/* mb_conv.c - mb1: every cuDNN engine for every distinct convolution of a training step. */
#include "base/mem.h"
#include "backend/cuda/op/cuda_problems.h"
#include "mb_cuda.h"
#include "predictions.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { PROBLEMS = 256, PER_STEP = 4, CHECKED = 16, NAME = 160 };

static fill fill_of(const conv_problem *q, int operand)
{
    const double fan_in = (double)(q->shape.kernel * q->shape.kernel) * (double)q->shape.cin;
    return (fill){operand, operand == CUDNN_CONV_W ? 1 / sqrt(fan_in) : 1, 0};
}

static double value(const conv_problem *q, int operand, int64_t i) { return mb_filled(fill_of(q, operand), i, q->io); }

/* ---- the reference: one element from the definition, in double ---- */

static int64_t x_index(const conv_shape *s, int64_t n, int64_t h, int64_t w, int64_t c)
{
    return ((n * s->h + h) * s->w + w) * s->cin + c;
}

static int64_t y_index(const conv_shape *s, int64_t n, int64_t h, int64_t w, int64_t k)
{
    return ((n * s->oh + h) * s->ow + w) * s->cout + k;
}

static int64_t w_index(const conv_shape *s, int64_t k, int i, int j, int64_t c)
{
    return ((k * s->kernel + i) * s->kernel + j) * s->cin + c;
}

static bool inside(int64_t i, int64_t n) { return i >= 0 && i < n; }

static double forward_at(const conv_problem *q, const int64_t at[4])
{
    const conv_shape *s = &q->shape;
    double y = 0;
    for (int i = 0; i < s->kernel; i++)
        for (int j = 0; j < s->kernel; j++) {
            const int64_t h = at[1] * s->stride - s->pad_begin + i, w = at[2] * s->stride - s->pad_begin + j;
            if (!inside(h, s->h) || !inside(w, s->w)) continue;
            for (int64_t c = 0; c < s->cin; c++)
                y += value(q, CUDNN_CONV_X, x_index(s, at[0], h, w, c)) *
                     value(q, CUDNN_CONV_W, w_index(s, at[3], i, j, c));
        }
    if (q->bias) y += value(q, CUDNN_CONV_BIAS, at[3]);
    if (q->residual) y += value(q, CUDNN_CONV_RESIDUAL, y_index(s, at[0], at[1], at[2], at[3]));
    return y;
}

static double data_at(const conv_problem *q, const int64_t at[4])
{
    const conv_shape *s = &q->shape;
    double x = 0;
    for (int i = 0; i < s->kernel; i++)
        for (int j = 0; j < s->kernel; j++) {
            const int64_t h = at[1] + s->pad_begin - i, w = at[2] + s->pad_begin - j;
            if (h % s->stride || w % s->stride || !inside(h / s->stride, s->oh) || !inside(w / s->stride, s->ow) ||
                h < 0 || w < 0)
                continue;
            for (int64_t k = 0; k < s->cout; k++)
                x += value(q, CUDNN_CONV_Y, y_index(s, at[0], h / s->stride, w / s->stride, k)) *
                     value(q, CUDNN_CONV_W, w_index(s, k, i, j, at[3]));
        }
    return x;
}

static double filter_at(const conv_problem *q, const int64_t at[4])
{
    const conv_shape *s = &q->shape;
    double sum = 0;
    for (int64_t n = 0; n < s->n; n++)
        for (int64_t oh = 0; oh < s->oh; oh++)
            for (int64_t ow = 0; ow < s->ow; ow++) {
                const int64_t h = oh * s->stride - s->pad_begin + at[1], w = ow * s->stride - s->pad_begin + at[2];
                if (!inside(h, s->h) || !inside(w, s->w)) continue;
                sum += value(q, CUDNN_CONV_X, x_index(s, n, h, w, at[3])) *
                       value(q, CUDNN_CONV_Y, y_index(s, n, oh, ow, at[0]));
            }
    return sum;
}

static const struct {
    const char *name;
    int result;
    double (*at)(const conv_problem *q, const int64_t at[4]);
    double share; /* predicted share of the peak */
} passes[] = {
    [CONV_PASS_FORWARD] = {"forward", CUDNN_CONV_Y, forward_at, CONV_FORWARD_SHARE},
    [CONV_PASS_BACKWARD_DATA] = {"data", CUDNN_CONV_X, data_at, CONV_DATA_SHARE},
    [CONV_PASS_BACKWARD_WEIGHTS] = {"filter", CUDNN_CONV_W, filter_at, CONV_FILTER_SHARE},
};

typedef struct sample {
    int64_t index;
    double want;
} sample;

/* The elements to check and their reference values, the same for all engines of the problem. */
static void choose_samples(const conv_problem *q, sample out[CHECKED])
{
    const conv_shape *s = &q->shape;
    const int64_t dims[3][4] = {[CONV_PASS_FORWARD] = {s->n, s->oh, s->ow, s->cout},
                                [CONV_PASS_BACKWARD_DATA] = {s->n, s->h, s->w, s->cin},
                                [CONV_PASS_BACKWARD_WEIGHTS] = {s->cout, s->kernel, s->kernel, s->cin}};
    const int64_t *d = dims[s->pass];
    for (int k = 0; k < CHECKED; k++) {
        const int64_t i = mb_pick(k, d[0] * d[1] * d[2] * d[3]);
        const int64_t at[4] = {i / (d[1] * d[2] * d[3]), i / (d[2] * d[3]) % d[1], i / d[3] % d[2], i % d[3]};
        out[k] = (sample){i, passes[s->pass].at(q, at)};
        if (q->accumulate) out[k].want += value(q, passes[s->pass].result, i);
    }
}

/* ---- the problems of a network ---- */

static void problem_name(const conv_problem *q, char text[NAME])
{
    const conv_shape *s = &q->shape;
    (void)snprintf(text, NAME, "%s %s %lldx%lldx%lldx%lld -> %lldx%lldx%lld f%d s%d p%d,%d%s%s%s", passes[s->pass].name,
                   q->tf32 ? "tf32" : dtype_name(q->io), (long long)s->n, (long long)s->h, (long long)s->w,
                   (long long)s->cin, (long long)s->oh, (long long)s->ow, (long long)s->cout, s->kernel, s->stride,
                   s->pad_begin, s->pad_end, q->bias ? " bias" : "", q->residual ? " residual" : "",
                   q->accumulate ? " add" : "");
}

typedef struct problem_list {
    conv_problem q[PROBLEMS];
    int times[PROBLEMS]; /* how often a training step has the problem */
    int n;
} problem_list;

static void add_problem(problem_list *l, const conv_problem *q)
{
    char name[NAME], other[NAME];
    problem_name(q, name);
    for (int k = 0; k < l->n; k++) {
        problem_name(&l->q[k], other);
        if (strcmp(name, other) != 0) continue;
        l->times[k]++;
        return;
    }
    if (l->n == PROBLEMS) return;
    l->q[l->n] = *q;
    l->times[l->n++] = 1;
}

static void list_problems(const mb_run *r, const plan *p, problem_list *l)
{
    const bool tf32 = r->o->backend.precision == PRECISION_TF32;
    for (int i = 0; i < p->n_step; i++) {
        conv_problem q[PER_STEP];
        const int n = cuda_conv_problems(p->steps[i], tf32, r->o->backend.disabled, q, PER_STEP);
        for (int k = 0; k < n && k < PER_STEP; k++) add_problem(l, &q[k]);
    }
}

/* ---- */

typedef struct best_plan {
    double tflops, ms, first_tflops; /* first: the engine that the library's heuristics rank first */
    int plan;
} best_plan;

static double flop(const conv_problem *q)
{
    const conv_shape *s = &q->shape;
    return 2.0 * (double)(s->n * s->oh * s->ow) * (double)conv_w_count(s);
}

static ddpm_status check(plan_bench *b, const conv_problem *q, int i, const sample *samples, double *error, err *e)
{
    agreement a = {0};
    TRY(plan_bench_once(b, i, e));
    for (int k = 0; k < CHECKED; k++) {
        double got;
        TRY(mb_read(&b->be->base, b->operand[0][passes[q->shape.pass].result], q->io, samples[k].index, &got, e));
        agree(&a, got, samples[k].want);
    }
    *error = agreement_error(&a);
    return DDPM_OK;
}

/* An engine that fails is reported and skipped; the others are still timed. */
static ddpm_status time_plan(mb_run *r, plan_bench *b, const conv_problem *q, int i, const sample *samples,
                             best_plan *best)
{
    json_out *j = &r->json;
    err why = {.status = DDPM_OK};
    char name[PRIMITIVE_NAME];
    plan_times t;
    double error = 0;
    b->p->fn->name(b->p, i, name);
    json_out_open(j, NULL, '{');
    json_out_text(j, "plan", name);
    json_out_int(j, "workspace", (int64_t)b->p->fn->workspace(b->p, i));
    ddpm_status st = check(b, q, i, samples, &error, &why);
    const bool wrong = st == DDPM_OK && error > mb_tolerance(q->io, q->tf32);
    if (st == DDPM_OK) json_out_real(j, "error", error);
    if (wrong) r->wrong++, printf("WRONG: %s is off by %.3g\n", name, error);
    if (st == DDPM_OK) st = plan_bench_time(r, b, i, &t, &why);
    if (st == DDPM_OK) {
        const double tflops = 1e-9 * flop(q) / t.time.median;
        timing_put(j, "time", &t.time);
        json_out_real(j, "tflops", tflops);
        json_out_bool(j, "recorded", t.recorded);
        if (i == 0) best->first_tflops = tflops;
        if (!wrong && tflops > best->tflops) best->tflops = tflops, best->ms = t.time.median, best->plan = i;
    } else
        json_out_text(j, "failed", why.text);
    json_out_close(j, '}');
    return rt_sync(b->be->main_stream, NULL); /* a device failure ends the benchmark */
}

static ddpm_status time_plans(mb_run *r, plan_bench *b, const conv_problem *q, best_plan *best, err *e)
{
    sample samples[CHECKED];
    ddpm_status st = DDPM_OK;
    choose_samples(q, samples);
    json_out_open(&r->json, "plans", '[');
    for (int i = 0; i < b->p->fn->count(b->p) && st == DDPM_OK; i++) st = time_plan(r, b, q, i, samples, best);
    json_out_close(&r->json, ']');
    return st == DDPM_OK ? DDPM_OK : err_set(e, st, "the device failed while plans were timed");
}

static void put_best(mb_run *r, const conv_problem *q, const best_plan *best, int plans)
{
    const double peak = q->io == DTYPE_BF16 ? PEAK_BF16_TFLOPS : q->tf32 ? PEAK_TF32_TFLOPS : 0;
    json_out_int(&r->json, "best", best->plan);
    json_out_real(&r->json, "best_tflops", best->tflops);
    json_out_real(&r->json, "best_ms", best->ms);
    json_out_real(&r->json, "first_tflops", best->first_tflops);
    json_out_real(&r->json, "predicted_tflops", peak * passes[q->shape.pass].share); /* 0: none; without tile fill */
    printf("  %3d plans, best %.1f TFLOP/s in %.4f ms, the library's first %.1f, predicted %.0f where tiles fill\n",
           plans, best->tflops, best->ms, best->first_tflops, peak * passes[q->shape.pass].share);
}

static void put_problem(mb_run *r, const conv_problem *q, const char *name, int times)
{
    const conv_shape *s = &q->shape;
    json_out *j = &r->json;
    json_out_text(j, "problem", name);
    json_out_text(j, "pass", passes[s->pass].name);
    json_out_text(j, "type", q->tf32 ? "tf32" : dtype_name(q->io));
    json_out_int(j, "times_a_step", times);
    json_out_open(j, "shape", '[');
    const int64_t shape[] = {s->n,    s->h,      s->w,      s->cin,       s->oh,     s->ow,
                             s->cout, s->kernel, s->stride, s->pad_begin, s->pad_end};
    for (size_t i = 0; i < sizeof shape / sizeof shape[0]; i++) json_out_int(j, NULL, shape[i]);
    json_out_close(j, ']');
}

static ddpm_status row(mb_run *r, const conv_problem *q, const char *name, int times, err *e)
{
    const cuda_backend *be = (const cuda_backend *)r->be;
    const primitive_search how = {.deterministic = !r->o->backend.nondeterministic, .workspace_cap = (size_t)256 << 20};
    operand_fill fills[PRIMITIVE_OPERANDS];
    primitive *p = NULL;
    plan_bench b = {.be = (cuda_backend *)r->be};
    best_plan best = {.plan = -1};
    ddpm_status st = DDPM_OK;
    for (int k = 0; k < PRIMITIVE_OPERANDS; k++) fills[k] = (operand_fill){q->io, fill_of(q, k)};
    json_out_open(&r->json, NULL, '{');
    put_problem(r, q, name, times);
    printf("%s\n", name);
    TRY_GOTO(cudnn_convolution_create(be->cudnn, q, &how, &p, e));
    TRY_GOTO(plan_bench_create(r, p, fills, &b, e));
    TRY_GOTO(time_plans(r, &b, q, &best, e));
    put_best(r, q, &best, p->fn->count(p));
done:
    json_out_close(&r->json, '}');
    plan_bench_destroy(&b);
    primitive_destroy(p);
    return st;
}

ddpm_status mb_conv(mb_run *r, err *e)
{
    plan *net = NULL;
    model *m = NULL;
    problem_list *l = NULL;
    ddpm_status st = DDPM_OK;
    json_out_open(&r->json, "problems", '[');
    TRY_GOTO(net_list(r, &net, &m, e));
    TRY_GOTO(mem_array(&l, 1, sizeof *l, "problems", e));
    list_problems(r, net, l);
    for (int k = 0; k < l->n; k++) {
        char name[NAME];
        problem_name(&l->q[k], name);
        if (mb_wanted(r, name)) TRY_GOTO(row(r, &l->q[k], name, l->times[k], e));
    }
done:
    json_out_close(&r->json, ']');
    mem_free(l);
    plan_destroy(net);
    model_destroy(m);
    return st;
}
