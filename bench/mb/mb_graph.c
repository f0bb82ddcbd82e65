/* mb_graph.c - mb6: a training step as a CUDA graph: wall clock against the sum of its kernels' times, and the gaps
 * between the kernels. */
#include "base/clock.h"
#include "base/mem.h"
#include "mb.h"
#include "mb_trace.h"
#include "predictions.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TRACED = 10, LISTED = 30 };

typedef struct by_name {
    const char *name;
    double ms;
    int count;
} by_name;

static int later_name(const void *a, const void *b)
{
    return strcmp(((const by_name *)a)->name, ((const by_name *)b)->name);
}

static int less_time(const void *a, const void *b)
{
    const double x = ((const by_name *)a)->ms, y = ((const by_name *)b)->ms;
    return (x < y) - (x > y);
}

/* The kernels with the largest total time, each name once. */
static ddpm_status put_names(mb_run *r, const trace *t, err *e)
{
    by_name *list;
    int n = 0;
    TRY(mem_array(&list, (size_t)t->n + 1, sizeof *list, "kernels", e));
    for (int i = 0; i < t->n; i++)
        list[i] = (by_name){t->record[i].name, 1e-6 * (double)(t->record[i].end - t->record[i].begin), 1};
    qsort(list, (size_t)t->n, sizeof *list, later_name);
    for (int i = 0; i < t->n; i++) {
        if (n && strcmp(list[n - 1].name, list[i].name) == 0)
            list[n - 1].ms += list[i].ms, list[n - 1].count++;
        else
            list[n++] = list[i];
    }
    qsort(list, (size_t)n, sizeof *list, less_time);
    json_out_open(&r->json, "kernels_by_time", '[');
    for (int i = 0; i < n && i < LISTED; i++) {
        json_out_open(&r->json, NULL, '{');
        json_out_text(&r->json, "name", list[i].name);
        json_out_real(&r->json, "ms_per_step", list[i].ms / TRACED);
        json_out_real(&r->json, "per_step", (double)list[i].count / TRACED);
        json_out_close(&r->json, '}');
        if (i < 12)
            printf("  %8.4f ms %5.1f times  %.90s\n", list[i].ms / TRACED, (double)list[i].count / TRACED,
                   list[i].name);
    }
    json_out_close(&r->json, ']');
    mem_free(list);
    return DDPM_OK;
}

typedef struct gaps {
    double sum_ms, busy_ms, span_ms, idle_ms;
    int idle;
    timing gap; /* us */
} gaps;

/* Records of two streams may overlap: the busy time is their union. */
static ddpm_status find_gaps(const trace *t, gaps *g, err *e)
{
    double *us;
    uint64_t until = 0;
    TRY(mem_array(&us, (size_t)t->n + 1, sizeof *us, "gaps", e));
    *g = (gaps){.idle = 0};
    for (int i = 0; i < t->n; i++) {
        const trace_record *r = &t->record[i];
        g->sum_ms += 1e-6 * (double)(r->end - r->begin);
        if (i && r->begin > until) {
            us[g->idle] = 1e-3 * (double)(r->begin - until);
            g->idle_ms += 1e-3 * us[g->idle++];
        }
        if (r->end > until) until = r->end;
    }
    if (t->n) g->span_ms = 1e-6 * (double)(until - t->record[0].begin);
    g->busy_ms = g->span_ms - g->idle_ms;
    g->gap = timing_of(us, g->idle);
    mem_free(us);
    return DDPM_OK;
}

static ddpm_status report(mb_run *r, const trace *t, const timing *wall, err *e)
{
    const predicted_step *p = mb_prediction(r);
    json_out *j = &r->json;
    gaps g;
    TRY(find_gaps(t, &g, e));
    const double sum = g.sum_ms / TRACED, busy = g.busy_ms / TRACED, count = (double)t->n / TRACED;
    json_out_real(j, "kernels_per_step", count);
    json_out_real(j, "sum_of_kernels_ms", sum);
    json_out_real(j, "busy_ms", busy);
    json_out_real(j, "span_ms", g.span_ms / TRACED); /* under tracing, so a little longer than without */
    json_out_real(j, "idle_ms", g.idle_ms / TRACED);
    json_out_real(j, "wall_over_sum", wall->median / sum);
    json_out_real(j, "wall_over_busy", wall->median / busy);
    timing_put(j, "gap_us", &g.gap);
    json_out_int(j, "dropped_records", (int64_t)t->dropped);
    json_out_real(j, "predicted_wall_over_sum", GRAPH_WALL_OVER_SUM);
    json_out_real(j, "predicted_gap_us", GRAPH_GAP_US);
    if (p) json_out_int(j, "predicted_kernels", predicted_kernels(p));
    printf("%.0f kernels a step, sum %.3f ms, wall %.3f ms (%.3f of the sum), gaps %.2f us median, %.3f ms idle\n",
           count, sum, wall->median, wall->median / sum, g.gap.median, g.idle_ms / TRACED);
    return put_names(r, t, e);
}

static ddpm_status traced(step_bench *b, trace *t, err *e)
{
    double ms[TRACED], wall_ms;
    TRY(trace_begin(e));
    const ddpm_status st = bench_train_iterations(&b->rig, TRACED, ms, &wall_ms, e);
    const ddpm_status ended = trace_end(t, st == DDPM_OK ? e : NULL);
    return st != DDPM_OK ? st : ended;
}

ddpm_status mb_graph(mb_run *r, err *e)
{
    step_bench b;
    trace t = {.n = 0};
    double *ms = NULL, wall_ms;
    ddpm_status st = DDPM_OK;
    TRY(step_create(r, r->o->backend.disabled, &b, e));
    TRY_GOTO(mem_array(&ms, (size_t)r->o->repeats, sizeof *ms, "timings", e));
    TRY_GOTO(bench_train_iterations(&b.rig, r->o->repeats, ms, &wall_ms, e));
    const timing wall = timing_of(ms, r->o->repeats);
    timing_put(&r->json, "step", &wall);
    json_out_real(&r->json, "wall_ms", wall_ms / r->o->repeats);
    TRY_GOTO(traced(&b, &t, e));
    TRY_GOTO(report(r, &t, &wall, e));
done:
    trace_free(&t);
    mem_free(ms);
    step_destroy(&b);
    return st;
}
