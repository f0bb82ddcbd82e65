/* cuda_run.c - a list of steps as one CUDA graph: run eagerly once, captured the next time, replayed after that.
 *
 * Nothing in a step depends on a value of the host, so a captured graph stays valid as long as the operands keep
 * their addresses; when an address has changed, the steps are captured again.
 *
 * Side steps (gradients of weights, which only the optimizer waits for) run on a second stream.  The plan keeps
 * their operands alive for SIDE_WINDOW steps; the main stream waits for them by then, or earlier where a step
 * touches tensors that they read or write.
 *
 * Steps leave partial sums of the gradients of parameters; before the optimizer reads these gradients, a few launches
 * complete all of them (kernels/grad_sums.h). */
#include "backend/cuda/cuda_run.h"
#include "backend/cuda/cuda_op.h"
#include "base/mem.h"

#include <stdint.h>

typedef struct graph_record {
    struct graph_record *next;
    step *const *steps; /* of the plan; compared, never dereferenced */
    int n;
    bool loop;
    uint64_t operands; /* hash of the operands' addresses at the capture */
    rt_graph *graph;   /* NULL: not captured yet */
} graph_record;

static void graph_record_destroy(graph_record *r)
{
    rt_graph_destroy(r->graph);
    mem_free(r);
}

static bool contains(const graph_record *r, const step *s)
{
    for (int i = 0; i < r->n; i++)
        if (r->steps[i] == s) return true;
    return false;
}

void cuda_forget_graphs(cuda_backend *be, const step *s)
{
    for (graph_record **at = &be->graphs; *at;) {
        graph_record *r = *at;
        if (s && !contains(r, s)) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        graph_record_destroy(r);
    }
}

/* ---- eager execution on two streams ---- */

static const tensor *whole(const tensor *t) { return t && t->base ? t->base : t; }

static bool touches(const step *s, const tensor *t)
{
    for (int k = 0; k < STEP_IN; k++)
        if (whole(s->in[k]) == t) return true;
    for (int k = 0; k < STEP_OUT; k++)
        if (whole(s->out[k]) == t) return true;
    return false;
}

/* Must `s` wait for the step `side`, which may still run on the side stream?  Yes where `s` writes a tensor that `side`
 * reads or writes, or reads a tensor that `side` writes. */
static bool depends(const step *s, const step *side)
{
    for (int k = 0; k < STEP_OUT; k++)
        if (s->out[k] && touches(side, whole(s->out[k]))) return true;
    for (int k = 0; k < STEP_IN; k++) {
        if (!s->in[k]) continue;
        if (s->in[k]->arena == ARENA_GRAD) return true; /* the optimizer, which reads the whole gradient arena */
        for (int j = 0; j < STEP_OUT; j++)
            if (side->out[j] && whole(side->out[j]) == whole(s->in[k])) return true;
    }
    return false;
}

/* The side steps that the main stream has not waited for yet. */
typedef struct pending {
    step *const *steps;
    int index[SIDE_WINDOW]; /* index of the side step that event after[slot] follows; -1: none */
} pending;

static ddpm_status wait_for(cuda_backend *be, pending *p, int slot, err *e)
{
    const int reached = p->index[slot];
    TRY(rt_stream_wait(be->main_stream, be->after[slot], e));
    for (int k = 0; k < SIDE_WINDOW; k++) /* the side stream runs in order, so earlier steps are done too */
        if (p->index[k] >= 0 && p->index[k] <= reached) p->index[k] = -1;
    return DDPM_OK;
}

static ddpm_status wait_where_needed(cuda_backend *be, pending *p, int i, err *e)
{
    for (int slot = 0; slot < SIDE_WINDOW; slot++) {
        const int side = p->index[slot];
        if (side < 0) continue;
        if (i - side >= SIDE_WINDOW || depends(p->steps[i], p->steps[side])) TRY(wait_for(be, p, slot, e));
    }
    return DDPM_OK;
}

static ddpm_status run_step(cuda_backend *be, step *s, bool complete, err *e)
{
    TRY(cuda_op_run(be, s, e));
    return complete ? cuda_op_sums(be, &s, 1, e) : DDPM_OK;
}

static ddpm_status run_on_side_stream(cuda_backend *be, pending *p, int i, bool complete, err *e)
{
    const int slot = i % SIDE_WINDOW;
    TRY(rt_event_record(be->before, be->main_stream, e));
    TRY(rt_stream_wait(be->side_stream, be->before, e));
    be->stream = be->side_stream;
    const ddpm_status st = run_step(be, p->steps[i], complete, e);
    be->stream = be->main_stream;
    TRY(st);
    TRY(rt_event_record(be->after[slot], be->side_stream, e));
    p->index[slot] = i;
    return DDPM_OK;
}

static ddpm_status wait_for_all(cuda_backend *be, pending *p, err *e)
{
    for (int slot = 0; slot < SIDE_WINDOW; slot++)
        if (p->index[slot] >= 0) TRY(wait_for(be, p, slot, e));
    return DDPM_OK;
}

/* Runs the steps, and before the first of the update (or at the end) completes the gradients of all. */
static ddpm_status run_each(cuda_backend *be, pending *p, int n, err *e)
{
    const bool at_once = cuda_disabled(be, CUDA_OPT_GRAD_SUMS);
    int summed = at_once ? n : 0; /* steps whose gradients are complete */
    for (int i = 0; i < n; i++) {
        if (summed < i && (op_flag[p->steps[i]->op] & OP_UPDATE)) {
            TRY(wait_for_all(be, p, e));
            TRY(cuda_op_sums(be, p->steps + summed, i - summed, e));
            summed = i;
        }
        TRY(wait_where_needed(be, p, i, e));
        TRY(p->steps[i]->side ? run_on_side_stream(be, p, i, at_once, e) : run_step(be, p->steps[i], at_once, e));
    }
    TRY(wait_for_all(be, p, e));
    return cuda_op_sums(be, p->steps + summed, n - summed, e);
}

static ddpm_status run_all(cuda_backend *be, step *const *steps, int n, err *e)
{
    pending p = {.steps = steps};
    for (int k = 0; k < SIDE_WINDOW; k++) p.index[k] = -1;
    const ddpm_status st = run_each(be, &p, n, e);
    if (st == DDPM_OK) return DDPM_OK;
    err ignored = {0}; /* report the first error; later work must not overlap with these side steps */
    const ddpm_status joined = wait_for_all(be, &p, &ignored);
    (void)joined;
    return st;
}

/* ---- captured as a graph ---- */

static uint64_t mix(uint64_t hash, const void *p) { return (hash ^ (uint64_t)(uintptr_t)p) * 0x9E3779B97F4A7C15u; }

static uint64_t mix_tensor(uint64_t hash, const tensor *t) { return t ? mix(mix(hash, t->data), t->low) : hash + 1; }

static uint64_t operands_of(step *const *steps, int n)
{
    uint64_t hash = 0;
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < STEP_IN; k++) hash = mix_tensor(hash, steps[i]->in[k]);
        for (int k = 0; k < STEP_OUT; k++) hash = mix_tensor(hash, steps[i]->out[k]);
        hash = mix_tensor(mix_tensor(hash, steps[i]->scratch), steps[i]->partial) ^ hash >> 29;
    }
    return hash;
}

static graph_record *find_record(cuda_backend *be, step *const *steps, int n, bool loop)
{
    for (graph_record *r = be->graphs; r; r = r->next)
        if (r->steps == steps && r->n == n && r->loop == loop) return r;
    return NULL;
}

/* *refused: CUDA accepts no such graph, though every step could be captured. */
static ddpm_status capture(cuda_backend *be, graph_record *r, bool *refused, err *e)
{
    *refused = false;
    rt_graph_destroy(r->graph);
    r->graph = NULL;
    ddpm_status st = r->loop ? rt_loop_begin(be->main_stream, be->count, e) : rt_graph_begin(be->main_stream, e);
    if (st != DDPM_OK) {
        *refused = r->loop; /* a driver may have no WHILE nodes */
        return st;
    }
    st = run_all(be, r->steps, r->n, e);
    if (st != DDPM_OK) {
        err ignored = {0};
        const ddpm_status ended = rt_graph_end(be->main_stream, NULL, &ignored);
        (void)ended; /* report the first error */
        return st;
    }
    st = rt_graph_end(be->main_stream, &r->graph, e);
    *refused = st != DDPM_OK;
    return st;
}

static ddpm_status up_to_date(cuda_backend *be, graph_record *r, bool *refused, err *e)
{
    const uint64_t operands = operands_of(r->steps, r->n);
    *refused = false;
    if (r->graph && r->operands == operands) return DDPM_OK;
    r->operands = operands;
    return capture(be, r, refused, e);
}

static ddpm_status launch_times(cuda_backend *be, graph_record *r, int times, err *e)
{
    for (int i = 0; i < times; i++) TRY(rt_graph_launch(r->graph, be->main_stream, e));
    return DDPM_OK;
}

static ddpm_status launch_loop(cuda_backend *be, graph_record *r, int times, err *e)
{
    TRY(cuda_stage_upload(be, be->count, &times, sizeof times, e));
    return rt_graph_launch(r->graph, be->main_stream, e);
}

static ddpm_status add_record(cuda_backend *be, step *const *steps, int n, bool loop, err *e)
{
    graph_record *r;
    TRY(mem_array(&r, 1, sizeof *r, "graph", e));
    *r = (graph_record){.next = be->graphs, .steps = steps, .n = n, .loop = loop};
    be->graphs = r;
    return DDPM_OK;
}

static ddpm_status replay(cuda_backend *be, step *const *steps, int n, int times, err *e)
{
    bool refused;
    const bool loop = times > 1 && be->device.loops && !be->loops_refused && !cuda_disabled(be, CUDA_OPT_LOOP);
    if (!find_record(be, steps, n, loop)) TRY(add_record(be, steps, n, loop, e));
    graph_record *r = find_record(be, steps, n, loop);
    const ddpm_status st = up_to_date(be, r, &refused, e);
    if (loop && refused) { /* no WHILE nodes, or a library's kernel is not allowed in one: launch iterations singly */
        be->loops_refused = true;
        return replay(be, steps, n, times, e);
    }
    TRY(st);
    return loop ? launch_loop(be, r, times, e) : launch_times(be, r, times, e);
}

static ddpm_status run_times(cuda_backend *be, step *const *steps, int n, int times, err *e)
{
    const bool seen = find_record(be, steps, n, false) || find_record(be, steps, n, true);
    if (cuda_disabled(be, CUDA_OPT_GRAPH) || n == 1) {
        for (int i = 0; i < times; i++) TRY(run_all(be, steps, n, e));
        return DDPM_OK;
    }
    if (seen) return replay(be, steps, n, times, e);
    /* Eager the first time: libraries load their code now, which is not allowed during a capture. */
    TRY(run_all(be, steps, n, e));
    if (times > 1) return replay(be, steps, n, times - 1, e);
    return add_record(be, steps, n, false, e);
}

static void count_versions(step *const *steps, int n, int times)
{
    for (int i = 0; i < n; i++) {
        const tensor *w = op_flag[steps[i]->op] & OP_UPDATES_WEIGHTS ? steps[i]->out[UPDATE_W] : NULL;
        if (w && w->version) *w->version += (uint64_t)times;
    }
}

ddpm_status cuda_run_steps(cuda_backend *be, step *const *steps, int n, int times, err *e)
{
    const ddpm_status st = run_times(be, steps, n, times, e);
    count_versions(steps, n, times); /* also after a failure: some of the steps may have run */
    return st;
}
