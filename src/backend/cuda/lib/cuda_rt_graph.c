/* cuda_rt_graph.c - capture and launch of the graphs of cuda_rt.h. */
#include "backend/cuda/lib/cuda_rt_call.h"
#include "base/mem.h"
#include "loop_next.h"

#include <string.h>

struct rt_graph {
    cudaGraph_t graph; /* kept alive: a loop's condition handle belongs to the graph */
    cudaGraphExec_t exec;
};

/* A capture must end in the thread where it began, so its state is thread-local. */
static _Thread_local struct recording {
    bool on;
    void *stream;
    cudaGraph_t outer; /* loops only: the graph with the WHILE node whose body is captured; else NULL */
    loop_next_args next;
} recording;

static ddpm_status may_record(err *e)
{
    if (recording.on) return err_set(e, DDPM_EBACKEND, "CUDA graph: a capture is already in progress");
    recording = (struct recording){0};
    return DDPM_OK;
}

ddpm_status rt_graph_begin(void *stream, err *e)
{
    TRY(may_record(e));
    CALL(cudaStreamBeginCapture, stream, cudaStreamCaptureModeThreadLocal);
    recording.on = true;
    recording.stream = stream;
    return DDPM_OK;
}

#if HAVE_LOOPS
static cudaError_t add_node(cudaGraph_t graph, struct cudaGraphNodeParams *node)
{
    cudaGraphNode_t added;
#if CUDART_VERSION >= 13000
    return cudaGraphAddNode(&added, graph, NULL, NULL, 0, node);
#else
    return cudaGraphAddNode(&added, graph, NULL, 0, node);
#endif
}

/* The outer graph has one WHILE node, which runs while its condition is not 0.  The condition is 1 at every launch of
 * the graph, and the last kernel of the body sets it again. */
static ddpm_status begin_body(void *stream, err *e)
{
    cudaGraphConditionalHandle handle;
    CALL(cudaGraphCreate, &recording.outer, 0);
    CALL(cudaGraphConditionalHandleCreate, &handle, recording.outer, 1, cudaGraphCondAssignDefault);
    struct cudaGraphNodeParams node;
    memset(&node, 0, sizeof node); /* CUDA requires that unused bytes are 0 */
    node.type = cudaGraphNodeTypeConditional;
    node.conditional.handle = handle;
    node.conditional.type = cudaGraphCondTypeWhile;
    node.conditional.size = 1;
    CALL(add_node, recording.outer, &node);
    CALL(cudaStreamBeginCaptureToGraph, stream, node.conditional.phGraph_out[0], NULL, NULL, 0,
         cudaStreamCaptureModeThreadLocal);
    recording.next.handle = handle;
    return DDPM_OK;
}
#else
static ddpm_status begin_body(void *stream, err *e)
{
    return err_set(e, DDPM_EBACKEND, "CUDA graph: loops require CUDA 12.4 or newer");
}
#endif

static void forget_recording(void)
{
    if (recording.outer) quietly(cudaGraphDestroy(recording.outer));
    recording = (struct recording){0};
}

ddpm_status rt_loop_begin(void *stream, int *count, err *e)
{
    TRY(may_record(e));
    const ddpm_status st = begin_body(stream, e);
    if (st != DDPM_OK) {
        forget_recording();
        return st;
    }
    recording.on = true;
    recording.stream = stream;
    recording.next.count = count;
    return DDPM_OK;
}

/* The first launch of a kernel loads its code, by calls that are forbidden during a capture; this kernel is launched
 * nowhere else. */
static ddpm_status append_next(err *e)
{
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    CALL(cudaThreadExchangeStreamCaptureMode, &mode);
    const ddpm_status st = rt_launched(k_loop_next(recording.stream, &recording.next), e);
    CALL(cudaThreadExchangeStreamCaptureMode, &mode);
    return st;
}

/* Ends the capture; the caller owns the captured graph. */
static ddpm_status end_capture(cudaGraph_t *out, err *e)
{
    ddpm_status st = DDPM_OK;
    cudaGraph_t captured = NULL, *outer = &recording.outer;
    *out = NULL;
    if (*outer) st = append_next(e);
    const cudaError_t why = cudaStreamEndCapture(recording.stream, &captured); /* also after a failure */
    if (why != cudaSuccess) {
        (void)cudaGetLastError();
        if (st == DDPM_OK) st = rt_failed("cudaStreamEndCapture", why, e);
    }
    if (st == DDPM_OK) {
        *out = *outer ? *outer : captured; /* a loop's captured body is part of its outer graph */
        *outer = NULL;
    }
    forget_recording();
    return st;
}

static ddpm_status make_executable(rt_graph *g, bool loop, void *stream, err *e)
{
    /* Keep the streams' priorities, which the captured nodes carry. */
    const unsigned long long flags = loop ? 0 : cudaGraphInstantiateFlagUseNodePriority;
    CALL(cudaGraphInstantiate, &g->exec, g->graph, flags);
    CALL(cudaGraphUpload, g->exec, stream);
    return DDPM_OK;
}

ddpm_status rt_graph_end(void *stream, rt_graph **out, err *e)
{
    ddpm_status st = DDPM_OK;
    const bool loop = recording.outer != NULL;
    cudaGraph_t graph = NULL;
    rt_graph *made = NULL;
    if (out) *out = NULL;
    if (!recording.on || recording.stream != stream)
        return out ? err_set(e, DDPM_EBACKEND, "CUDA graph: no capture is in progress on this stream") : DDPM_OK;
    if (!out) { /* the captured work and its errors no longer matter */
        if (end_capture(&graph, NULL) == DDPM_OK) quietly(cudaGraphDestroy(graph));
        return DDPM_OK;
    }
    TRY(end_capture(&graph, e));
    TRY_GOTO(mem_array(&made, 1, sizeof *made, "graph", e));
    made->graph = graph;
    graph = NULL;
    TRY_GOTO(make_executable(made, loop, stream, e));
    *out = made;
done:
    if (st != DDPM_OK) {
        if (graph) quietly(cudaGraphDestroy(graph));
        rt_graph_destroy(made);
    }
    return st;
}

ddpm_status rt_graph_launch(rt_graph *graph, void *stream, err *e)
{
    CALL(cudaGraphLaunch, graph->exec, stream);
    return DDPM_OK;
}

void rt_graph_destroy(rt_graph *graph)
{
    if (!graph) return;
    if (graph->exec) quietly(cudaGraphExecDestroy(graph->exec));
    if (graph->graph) quietly(cudaGraphDestroy(graph->graph));
    mem_free(graph);
}
