/* mb_plan.c - times the engines or algos of a library one by one, on rotating sets of operands. */
#include "mb_cuda.h"

#include <string.h>

static size_t bytes_of(const primitive *p)
{
    size_t all = 0;
    for (int k = 0; k < PRIMITIVE_OPERANDS; k++) all += p->bytes[k];
    return all;
}

static ddpm_status add_set(plan_bench *b, const operand_fill *fills, err *e)
{
    const int set = b->sets++;
    for (int k = 0; k < PRIMITIVE_OPERANDS; k++) {
        const size_t bytes = b->p->bytes[k];
        if (!bytes) continue;
        TRY(rt_alloc(bytes, &b->operand[set][k], e));
        if (set > 0) {
            TRY(rt_copy(b->operand[set][k], b->operand[0][k], bytes, b->be->main_stream, e));
            continue;
        }
        const int64_t count = (int64_t)(bytes / dtype_size(fills[k].d));
        TRY(mb_fill(&b->be->base, b->operand[0][k], fills[k].d, count, fills[k].f, e));
        if (!b->p->written[k]) continue;
        TRY(rt_alloc(bytes, &b->first[k], e));
        TRY(rt_copy(b->first[k], b->operand[0][k], bytes, b->be->main_stream, e));
    }
    return DDPM_OK;
}

ddpm_status plan_bench_create(mb_run *r, primitive *p, const operand_fill fills[PRIMITIVE_OPERANDS], plan_bench *out,
                              err *e)
{
    ddpm_status st = DDPM_OK;
    *out = (plan_bench){.be = (cuda_backend *)r->be, .p = p};
    do TRY_GOTO(add_set(out, fills, e));
    while (out->sets < PLAN_SETS && (size_t)out->sets * bytes_of(p) < 3 * out->be->device.l2);
    st = rt_sync(out->be->main_stream, e);
done:
    if (st != DDPM_OK) plan_bench_destroy(out);
    return st;
}

void plan_bench_destroy(plan_bench *b)
{
    for (int s = 0; s < b->sets; s++)
        for (int k = 0; k < PRIMITIVE_OPERANDS; k++) rt_free(b->operand[s][k]);
    for (int k = 0; k < PRIMITIVE_OPERANDS; k++) rt_free(b->first[k]);
    rt_free(b->workspace);
    *b = (plan_bench){.be = b->be};
}

static ddpm_status make_room(plan_bench *b, int i, err *e)
{
    const size_t want = b->p->fn->workspace(b->p, i);
    if (want <= b->room) return DDPM_OK;
    rt_free(b->workspace);
    b->workspace = NULL, b->room = 0;
    TRY(rt_alloc(want, &b->workspace, e));
    b->room = want;
    return DDPM_OK;
}

ddpm_status plan_bench_once(plan_bench *b, int i, err *e)
{
    TRY(make_room(b, i, e));
    for (int k = 0; k < PRIMITIVE_OPERANDS; k++)
        if (b->first[k]) TRY(rt_copy(b->operand[0][k], b->first[k], b->p->bytes[k], b->be->main_stream, e));
    TRY(b->p->fn->run(b->p, i, b->operand[0], b->workspace, b->be->main_stream, e));
    return rt_sync(b->be->main_stream, e);
}

static ddpm_status each_set(plan_bench *b, int i, err *e)
{
    for (int s = 0; s < b->sets; s++) TRY(b->p->fn->run(b->p, i, b->operand[s], b->workspace, b->be->main_stream, e));
    return DDPM_OK;
}

/* NULL if the engine cannot be captured in a graph. */
static rt_graph *record(plan_bench *b, int i)
{
    rt_graph *graph = NULL;
    err ignored = {.status = DDPM_OK};
    if (rt_graph_begin(b->be->main_stream, &ignored) != DDPM_OK) return NULL;
    const ddpm_status st = each_set(b, i, &ignored);
    if (rt_graph_end(b->be->main_stream, st == DDPM_OK ? &graph : NULL, &ignored) != DDPM_OK) return NULL;
    return graph;
}

static ddpm_status turn(plan_bench *b, int i, rt_graph *graph, err *e)
{
    return graph ? rt_graph_launch(graph, b->be->main_stream, e) : each_set(b, i, e);
}

ddpm_status plan_bench_time(mb_run *r, plan_bench *b, int i, plan_times *out, err *e)
{
    enum { TURNS = 64 };
    const int n = r->o->repeats < TURNS ? r->o->repeats : TURNS;
    stamp *stamps = NULL;
    rt_graph *graph = NULL;
    double ms[TURNS];
    ddpm_status st = DDPM_OK;
    TRY_GOTO(make_room(b, i, e));
    TRY_GOTO(stamps_create(&stamps, n + 1, e));
    TRY_GOTO(each_set(b, i, e)); /* warm-up: libraries load their code now */
    TRY_GOTO(rt_sync(b->be->main_stream, e));
    graph = record(b, i);
    TRY_GOTO(turn(b, i, graph, e));
    TRY_GOTO(stamp_set(r->be, &stamps[0], e));
    for (int k = 0; k < n; k++) {
        TRY_GOTO(turn(b, i, graph, e));
        TRY_GOTO(stamp_set(r->be, &stamps[k + 1], e));
    }
    for (int k = 0; k < n; k++) {
        TRY_GOTO(stamp_ms(r->be, &stamps[k], &stamps[k + 1], &ms[k], e));
        ms[k] /= b->sets;
    }
    *out = (plan_times){timing_of(ms, n), graph != NULL};
done:
    rt_graph_destroy(graph);
    stamps_destroy(r->be, stamps, n + 1);
    return st;
}
