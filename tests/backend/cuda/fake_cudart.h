/* fake_cudart.h - a CUDA runtime that logs its calls, can fail any call, and counts the objects that it creates.
 * Include in one file of a program: it defines CUDA's functions. */
#ifndef DDPM_FAKE_CUDART_H
#define DDPM_FAKE_CUDART_H
#include "loop_next.h"

#include <criterion/criterion.h>
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    int driver, count, capability; /* driver version (13000); number of devices; compute capability (90 is 9.0) */
    cudaError_t count_error, busy; /* errors of querying the number of devices; of using a device */
    int calls, fail_at;            /* number of calls that can fail; the call that fails, or 0 */
    cudaError_t fail_with, last;
    int live;                        /* allocations, streams, events, graphs and executable graphs that exist */
    enum cudaStreamCaptureMode mode; /* of the thread; initially Global, 0 */
    bool capturing, invalid;
    int handle_default, handle_flags, thread_local_mode;
    unsigned long long flags;
    bool in_body; /* of a loop */
#if CUDART_VERSION >= 12040
    struct cudaGraphNodeParams node;
#endif
    cudaGraph_t executable_of;
    void *next_stream;
    loop_next_args next;
    char log[4096];
} cuda;
static _Thread_local int current; /* the current device of this thread */

static cudaError_t failure(cudaError_t why)
{
    if (why != cudaSuccess) cuda.last = why;
    return why;
}

static cudaError_t call(const char *name)
{
    strcat(strcat(cuda.log, cuda.log[0] ? " " : ""), name);
    cr_assert_lt(strlen(cuda.log), sizeof cuda.log - 64);
    return failure(++cuda.calls == cuda.fail_at ? cuda.fail_with : cudaSuccess);
}

#define CALLED(name)                                                                                                   \
    do {                                                                                                               \
        const cudaError_t called_ = call(name);                                                                        \
        if (called_ != cudaSuccess) return called_;                                                                    \
    } while (0)

static void *hold(size_t bytes)
{
    cuda.live++;
    return malloc(bytes ? bytes : 1);
}

static cudaError_t let_go(void *p)
{
    cr_assert_not_null(p);
    cuda.live--;
    free(p);
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t was = cuda.last;
    cuda.last = cudaSuccess;
    return was;
}
const char *cudaGetErrorString(cudaError_t error)
{
    return error == cudaErrorMemoryAllocation ? "out of memory" : error == cudaSuccess ? "no error" : "that went wrong";
}
cudaError_t cudaDriverGetVersion(int *version)
{
    *version = cuda.driver;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}
cudaError_t cudaGetDeviceCount(int *count)
{
    *count = cuda.count_error == cudaSuccess ? cuda.count : 7; /* a meaningless value */
    return failure(cuda.count_error);
}
cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr what, int index)
{
    cr_assert(index >= 0 && index < cuda.count);
    switch ((int)what) {
    case cudaDevAttrComputeCapabilityMajor: *value = cuda.capability / 10; break;
    case cudaDevAttrComputeCapabilityMinor: *value = cuda.capability % 10; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrL2CacheSize: *value = 50 << 20; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = 232448; break;
    default: return failure(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int index)
{
    CALLED("cudaGetDeviceProperties");
    memset(p, 0, sizeof *p);
    strcpy(p->name, "NVIDIA H200");
    p->totalGlobalMem = (size_t)139 << 30;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *text, int cap, int index)
{
    CALLED("cudaDeviceGetPCIBusId");
    (void)snprintf(text, (size_t)cap, "0000:%02d:00.0", index);
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device)
{
    CALLED("cudaSetDevice");
    if (cuda.busy != cudaSuccess) return failure(cuda.busy);
    current = device;
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **out, size_t bytes)
{
    *out = &cuda; /* after a failure the output must not be used */
    CALLED("cudaMalloc");
    *out = hold(bytes);
    return cudaSuccess;
}
cudaError_t cudaFree(void *p)
{
    if (p) return let_go(p);
    CALLED("cudaFree");
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags)
{
    *out = &cuda;
    CALLED("cudaHostAlloc");
    cr_expect_eq(flags, (unsigned)cudaHostAllocPortable);
    *out = hold(bytes);
    return cudaSuccess;
}
cudaError_t cudaFreeHost(void *p) { return let_go(p); }
cudaError_t cudaMemGetInfo(size_t *unused, size_t *total)
{
    CALLED("cudaMemGetInfo");
    *unused = (size_t)3 << 30;
    *total = (size_t)139 << 30;
    return cudaSuccess;
}
cudaError_t cudaMemset(void *at, int value, size_t bytes)
{
    CALLED("cudaMemset");
    memset(at, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream)
{
    CALLED("cudaMemsetAsync");
    memset(at, value, bytes);
    return cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    static const char *const names[] = {"?", "up", "down", "across"};
    CALLED("cudaMemcpyAsync");
    strcat(strcat(cuda.log, ":"), names[kind]);
    memcpy(to, from, bytes);
    return cudaSuccess;
}
cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    CALLED("cudaDeviceGetStreamPriorityRange");
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t *out, unsigned flags, int priority)
{
    char text[60];
    CALLED("cudaStreamCreateWithPriority");
    (void)snprintf(text, sizeof text, ":%u,%d", flags, priority);
    strcat(cuda.log, text);
    *out = hold(1);
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return let_go(stream); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    CALLED("cudaStreamSynchronize");
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    cr_expect(stream && event && flags == 0);
    CALLED("cudaStreamWaitEvent");
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags)
{
    CALLED("cudaEventCreateWithFlags");
    strcat(cuda.log, flags == cudaEventDisableTiming ? ":untimed" : flags == cudaEventDefault ? ":timed" : ":?");
    *out = hold(1);
    return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) { return let_go(event); }
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    cr_expect(event && stream);
    CALLED("cudaEventRecord");
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    cr_expect(event);
    CALLED("cudaEventSynchronize");
    return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    cr_expect(from != to);
    CALLED("cudaEventElapsedTime");
    *ms = 2.5f;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    CALLED("cudaStreamBeginCapture");
    cuda.capturing = true;
    cuda.thread_local_mode = mode == cudaStreamCaptureModeThreadLocal;
    return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    CALLED("cudaThreadExchangeStreamCaptureMode");
    const enum cudaStreamCaptureMode was = cuda.mode;
    cuda.mode = *mode;
    *mode = was;
    return cudaSuccess;
}
/* A graph is a pointer to an int, its kind: 1 is an outer graph, 2 a captured one. */
static cudaGraph_t new_graph(int kind)
{
    int *graph = hold(sizeof *graph);
    *graph = kind;
    return (cudaGraph_t)graph;
}
static int body = 3;
cudaError_t cudaGraphCreate(cudaGraph_t *out, unsigned flags)
{
    CALLED("cudaGraphCreate");
    *out = new_graph(1);
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    cr_assert_neq((int *)graph, &body, "the body is the outer graph's");
    return let_go(graph);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *out)
{
    cr_assert(cuda.capturing);
    cuda.capturing = false; /* also after a failure */
    *out = NULL;
    CALLED("cudaStreamEndCapture");
    if (cuda.invalid) return failure(cudaErrorStreamCaptureInvalidated);
    *out = cuda.in_body ? (cudaGraph_t)&body : new_graph(2);
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph, unsigned long long flags)
{
    CALLED("cudaGraphInstantiate");
    cuda.flags = flags;
    cuda.executable_of = graph;
    *out = hold(1);
    return cudaSuccess;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t exec, cudaStream_t stream)
{
    cr_expect(exec && stream);
    CALLED("cudaGraphUpload");
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    cr_expect(exec && stream);
    CALLED("cudaGraphLaunch");
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return let_go(exec); }
#if CUDART_VERSION >= 12040
cudaError_t cudaGraphConditionalHandleCreate(cudaGraphConditionalHandle *out, cudaGraph_t graph, unsigned value,
                                             unsigned flags)
{
    cr_expect_eq(*(int *)graph, 1);
    CALLED("cudaGraphConditionalHandleCreate");
    cuda.handle_default = (int)value;
    cuda.handle_flags = (int)flags;
    *out = 4711;
    return cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaGraphAddNode(cudaGraphNode_t *out, cudaGraph_t graph, const cudaGraphNode_t *after,
                             const cudaGraphEdgeData *edges, size_t n, struct cudaGraphNodeParams *node)
{
    cr_expect_null(edges);
#else
cudaError_t cudaGraphAddNode(cudaGraphNode_t *out, cudaGraph_t graph, const cudaGraphNode_t *after, size_t n,
                             struct cudaGraphNodeParams *node)
{
#endif
    static cudaGraph_t bodies[1] = {(cudaGraph_t)&body};
    cr_expect(out && *(int *)graph == 1 && !after && n == 0);
    CALLED("cudaGraphAddNode");
    cuda.node = *node;
    node->conditional.phGraph_out = bodies;
    return cudaSuccess;
}
cudaError_t cudaStreamBeginCaptureToGraph(cudaStream_t stream, cudaGraph_t graph, const cudaGraphNode_t *after,
                                          const cudaGraphEdgeData *edges, size_t n, enum cudaStreamCaptureMode mode)
{
    cr_expect(stream && !after && !edges && n == 0);
    cr_expect_eq((int *)graph, &body);
    CALLED("cudaStreamBeginCaptureToGraph");
    cuda.capturing = cuda.in_body = true;
    cuda.thread_local_mode = mode == cudaStreamCaptureModeThreadLocal;
    return cudaSuccess;
}
#endif

ddpm_status k_loop_next(void *stream, const loop_next_args *a)
{
    cr_assert(cuda.capturing, "the last kernel of the body is not recorded");
    cr_assert_eq(cuda.mode, cudaStreamCaptureModeRelaxed, "its code cannot be loaded");
    cuda.next_stream = stream;
    cuda.next = *a;
    return call("k_loop_next") == cudaSuccess ? DDPM_OK : DDPM_EBACKEND;
}

#endif
