/* bench_ops.c - timing a plan step by step. */
#include "base/clock.h"
#include "base/mem.h"
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>

enum { IN_A_ROW = 8 }; /* consecutive runs of a step between two timestamps, on a GPU */

typedef struct ops_bench {
    const bench_ops_spec *spec;
    step **rows;   /* [n_step, IN_A_ROW]  borrowed from the result */
    double *ms;    /* [n_step, rounds] */
    double *whole; /* [rounds]  sums over a pass */
    void *saved;   /* copy of a step's accumulated outputs from before its repeated runs */
    size_t room;
} ops_bench;

static int runs_of(const backend *be, const step *s)
{
    return be->fn->host_memory || op_flag[s->op] & OP_STATEFUL ? 1 : IN_A_ROW;
}

static size_t added_bytes(const backend *be, const step *s, int k)
{
    const tensor *t = s->out[k];
    if (!t || !step_adds(s, k)) return 0;
    return be->fn->tensor_bytes(be, t->base ? t->base : t);
}

static void *added_data(const step *s, int k) { return s->out[k]->base ? s->out[k]->base->data : s->out[k]->data; }

/* Save the step's accumulated outputs from the GPU, or restore them. */
static ddpm_status keep_sums(ops_bench *b, const step *s, bool back, err *e)
{
    backend *be = b->spec->be;
    size_t at = 0;
    for (int k = 0; k < STEP_OUT; k++) {
        const size_t bytes = added_bytes(be, s, k);
        char *host = (char *)b->saved + at;
        if (bytes == 0) continue;
        TRY(back ? be->fn->upload(be, added_data(s, k), host, bytes, e)
                 : be->fn->download(be, host, added_data(s, k), bytes, e));
        at += bytes;
    }
    return DDPM_OK;
}

static ddpm_status stamped_run(ops_bench *b, int i, stamp stamps[2], double *ms, err *e)
{
    backend *be = b->spec->be;
    const int times = runs_of(be, b->spec->p->steps[i]);
    TRY(backend_wait(be, e));
    TRY(stamp_set(be, &stamps[0], e));
    TRY(be->fn->run(be, b->rows + (ptrdiff_t)i * IN_A_ROW, times, 1, e));
    TRY(stamp_set(be, &stamps[1], e));
    TRY(backend_wait(be, e));
    TRY(stamp_ms(be, &stamps[0], &stamps[1], ms, e));
    *ms /= times;
    return DDPM_OK;
}

/* Time step i; afterwards its outputs are those of a single run. */
static ddpm_status time_step(ops_bench *b, int i, stamp stamps[2], double *ms, err *e)
{
    step *s = b->spec->p->steps[i];
    const bool several = runs_of(b->spec->be, s) > 1 && s->accumulate;
    if (several) TRY(keep_sums(b, s, false, e));
    TRY(stamped_run(b, i, stamps, ms, e));
    if (!several) return DDPM_OK;
    TRY(keep_sums(b, s, true, e));
    return b->spec->be->fn->run(b->spec->be, &b->spec->p->steps[i], 1, 1, e);
}

/* One pass; `round` < 0: warm-up. */
static ddpm_status run_pass(ops_bench *b, int round, stamp stamps[2], err *e)
{
    const bench_ops_spec *spec = b->spec;
    double sum = 0;
    TRY(spec->begin(spec->context, e));
    for (int i = 0; i < spec->p->n_step; i++) {
        double ms = 0;
        TRY(time_step(b, i, stamps, &ms, e));
        sum += ms;
        if (round >= 0) b->ms[(ptrdiff_t)i * spec->limits.rounds + round] = ms;
    }
    if (round >= 0) b->whole[round] = sum;
    return DDPM_OK;
}

static ddpm_status run_passes(ops_bench *b, int *rounds, err *e)
{
    const bench_limits *l = &b->spec->limits;
    const int least = l->rounds < BENCH_LEAST ? l->rounds : BENCH_LEAST;
    const int record = b->spec->be->fn->host_memory ? 1 : 2; /* warm-up passes: a GPU captures graphs first */
    double begin = clock_seconds();
    stamp stamps[2] = {{0}, {0}};
    ddpm_status st = DDPM_OK;
    int n = 0;
    for (int i = 0; i < l->warmup || i < record; i++) {
        if (i >= record && clock_seconds() - begin > l->seconds / 4) break;
        TRY_GOTO(run_pass(b, -1, stamps, e));
    }
    begin = clock_seconds();
    while (n < l->rounds && (n < least || clock_seconds() - begin < l->seconds)) {
        TRY_GOTO(run_pass(b, n, stamps, e));
        n++;
    }
done:
    for (int k = 0; k < 2 && b->spec->be->fn->event_free; k++)
        b->spec->be->fn->event_free(b->spec->be, stamps[k].event);
    *rounds = n;
    return st;
}

static ddpm_status take_memory(ops_bench *b, err *e)
{
    const plan *p = b->spec->p;
    const size_t n = (size_t)p->n_step, rounds = (size_t)b->spec->limits.rounds;
    for (int i = 0; i < p->n_step; i++) {
        size_t sums = 0;
        for (int k = 0; k < STEP_OUT; k++) sums += added_bytes(b->spec->be, p->steps[i], k);
        if (sums > b->room) b->room = sums;
    }
    TRY(mem_array(&b->saved, b->room, 1, "sums", e));
    TRY(mem_array(&b->ms, n * rounds, sizeof(double), "timings", e));
    TRY(mem_array(&b->whole, rounds, sizeof(double), "timings", e));
    for (size_t i = 0; i < n * IN_A_ROW; i++) b->rows[i] = p->steps[i / IN_A_ROW];
    return DDPM_OK;
}

static op_phase phase_of(const plan *p, int i)
{
    if (op_flag[p->steps[i]->op] & OP_UPDATE) return PHASE_UPDATE;
    return i < p->n_forward ? PHASE_FORWARD : PHASE_BACKWARD;
}

static void fill_in(const ops_bench *b, int rounds, step_costs *out)
{
    const bench_ops_spec *spec = b->spec;
    for (int i = 0; i < out->n; i++) {
        step_cost *o = &out->list[i];
        *o = (step_cost){.s = spec->p->steps[i],
                         .phase = phase_of(spec->p, i),
                         .time = timing_of(b->ms + (ptrdiff_t)i * spec->limits.rounds, rounds),
                         .flops = plan_flops(spec->p, i, i + 1),
                         .bytes = plan_bytes(spec->p, i, i + 1)};
        o->floor_ms = roofline_ms(o->flops, o->bytes, &spec->peak);
    }
    out->pass = timing_of(b->whole, rounds);
}

ddpm_status bench_ops(const bench_ops_spec *spec, step_costs *out, err *e)
{
    ops_bench b = {.spec = spec};
    int rounds = 0;
    ddpm_status st = DDPM_OK;
    *out = (step_costs){.n = spec->p->n_step};
    TRY_GOTO(mem_array(&out->list, (size_t)out->n, sizeof *out->list, "times", e));
    TRY_GOTO(mem_array(&out->rows, (size_t)out->n * IN_A_ROW, sizeof(step *), "lists of steps", e));
    b.rows = out->rows;
    TRY_GOTO(take_memory(&b, e));
    TRY_GOTO(run_passes(&b, &rounds, e));
    fill_in(&b, rounds, out);
done:
    mem_free(b.saved);
    mem_free(b.ms);
    mem_free(b.whole);
    return st;
}

void bench_ops_free(step_costs *t)
{
    mem_free(t->list);
    mem_free(t->rows);
    *t = (step_costs){.n = 0};
}

/* ---- sums and order ------------------------------------------------------------------------------------ */

static int longer_first(const void *a, const void *b)
{
    const double x = ((const step_total *)a)->ms, y = ((const step_total *)b)->ms;
    return (x < y) - (x > y);
}

int bench_ops_total(const step_cost *ops, int n, step_total *totals)
{
    step_total all[OP_COUNT][PHASES];
    int found = 0;
    memset(all, 0, sizeof all);
    for (int i = 0; i < n; i++) {
        step_total *t = &all[ops[i].s->op][ops[i].phase];
        t->op = ops[i].s->op, t->phase = ops[i].phase;
        t->count++;
        t->ms += ops[i].time.median;
        t->flops += ops[i].flops, t->bytes += ops[i].bytes, t->floor_ms += ops[i].floor_ms;
    }
    for (int k = 0; k < OP_COUNT; k++)
        for (int phase = 0; phase < PHASES; phase++)
            if (all[k][phase].count) totals[found++] = all[k][phase];
    qsort(totals, (size_t)found, sizeof *totals, longer_first);
    return found;
}

static int more_lost_first(const void *a, const void *b)
{
    const step_cost *p = a, *q = b;
    const double x = p->time.median - p->floor_ms, y = q->time.median - q->floor_ms;
    return (x < y) - (x > y);
}

void bench_ops_sort(step_cost *ops, int n) { qsort(ops, (size_t)n, sizeof *ops, more_lost_first); }
