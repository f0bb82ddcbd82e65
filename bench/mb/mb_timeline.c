/* mb_timeline.c - mb8: where the time of a training step goes, by op.
 *
 * Each step of the plan is timed alone, so many times in a row that launching it costs nothing; steps
 * of the same shapes are timed once.  The sum is what a step would take on one stream without gaps. */
#include "core/clock.h"
#include "core/mem.h"
#include "mb.h"

#include <stdio.h>

enum { IN_A_ROW = 8 };

typedef struct measured {
    const step *s;
    double ms;
} measured;

typedef struct timeline {
    mb_run *r;
    measured *seen;
    int n_seen, left_out;
    step **rows; /* IN_A_ROW of each seen step: the backend knows them by their address */
    double ms[OP_COUNT], flops[OP_COUNT];
    int count[OP_COUNT];
} timeline;

static ddpm_status measure(timeline *t, step *s, double *ms, err *e)
{
    timing time;
    for (int k = 0; k < t->n_seen; k++)
        if (same_step(t->seen[k].s, s)) {
            *ms = t->seen[k].ms;
            return DDPM_OK;
        }
    if (mb_late(t->r, clock_seconds())) {
        t->left_out++;
        *ms = 0;
        return DDPM_OK;
    }
    step **row = t->rows + (ptrdiff_t)IN_A_ROW * t->n_seen;
    for (int k = 0; k < IN_A_ROW; k++) row[k] = s;
    TRY(time_steps(t->r, t->r->be, row, IN_A_ROW, &time, e));
    *ms = time.median / IN_A_ROW;
    t->seen[t->n_seen++] = (measured){s, *ms};
    return DDPM_OK;
}

static ddpm_status add_plan(timeline *t, const plan *p, err *e)
{
    for (int i = 0; i < p->n_step; i++) {
        step *s = p->steps[i];
        double ms;
        TRY(measure(t, s, &ms, e));
        t->ms[s->op] += ms;
        t->flops[s->op] += op_flops[s->op](s);
        t->count[s->op]++;
        json_out_open(&t->r->json, NULL, '{');
        json_out_text(&t->r->json, "path", s->path);
        json_out_text(&t->r->json, "op", op_name[s->op]);
        json_out_real(&t->r->json, "ms", ms);
        json_out_real(&t->r->json, "gflop", 1e-9 * op_flops[s->op](s));
        json_out_close(&t->r->json, '}');
    }
    return DDPM_OK;
}

static void put_classes(timeline *t)
{
    json_out *j = &t->r->json;
    double sum = 0;
    for (int k = 0; k < OP_COUNT; k++) sum += t->ms[k];
    json_out_open(j, "classes", '[');
    for (int k = 0; k < OP_COUNT; k++) {
        if (!t->count[k]) continue;
        const double tflops = t->ms[k] > 0 ? 1e-9 * t->flops[k] / t->ms[k] : 0;
        printf("%-14s %4d steps %9.4f ms %5.1f%% %8.1f TFLOP/s\n", op_name[k], t->count[k], t->ms[k],
               100 * t->ms[k] / (sum > 0 ? sum : 1), tflops);
        json_out_open(j, NULL, '{');
        json_out_text(j, "op", op_name[k]);
        json_out_int(j, "steps", t->count[k]);
        json_out_real(j, "ms", t->ms[k]);
        json_out_real(j, "tflops", tflops);
        json_out_close(j, '}');
    }
    json_out_close(j, ']');
    json_out_real(j, "sum_ms", sum);
    json_out_int(j, "not_timed", t->left_out);
    printf("sum %.3f ms%s\n", sum, t->left_out ? " (not all: the time was up)" : "");
}

ddpm_status mb_timeline(mb_run *r, err *e)
{
    step_bench b;
    timeline t = {.r = r};
    timing whole;
    ddpm_status st = DDPM_OK;
    TRY(step_create(r, r->o->backend.debug, &b, e));
    const plan *p = trainer_plan(b.t);
    TRY_GOTO(mem_array(&t.seen, (size_t)p->n_step, sizeof *t.seen, "timeline", e));
    TRY_GOTO(mem_array(&t.rows, (size_t)p->n_step * IN_A_ROW, sizeof(step *), "timeline", e));
    TRY_GOTO(time_steps(r, b.be, p->steps, p->n_step, &whole, e));
    timing_put(&r->json, "whole", &whole);
    json_out_open(&r->json, "steps", '[');
    st = add_plan(&t, p, e);
    json_out_close(&r->json, ']');
    TRY_GOTO(st);
    put_classes(&t);
    printf("whole step, as it is run: %.3f ms\n", whole.median);
done:
    step_destroy(&b);
    mem_free(t.seen);
    mem_free(t.rows); /* after the plan */
    return st;
}
