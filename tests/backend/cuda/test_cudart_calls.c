/* cuda_rt.c and cuda_rt_graph.c on a fake CUDA runtime: which calls they make and in which order, what they report of
 * failures, and that nothing is left allocated after one.  Links the real backend, but none of CUDA. */
#include "backend/cuda/lib/cuda_rt.h"
#include "backend/cuda/fake_cudart.h"
#include "support/ok.h"

#include <criterion/criterion.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* ---- shared by the tests ---- */

static void set_up(void)
{
    memset(&cuda, 0, sizeof cuda);
    cuda.driver = CUDART_VERSION;
    cuda.count = 2;
    cuda.capability = 90;
    cuda.fail_with = cudaErrorUnknown;
    (void)unsetenv("CUDA_VISIBLE_DEVICES");
}

static void nothing_left(void)
{
    cr_expect_eq(cuda.live, 0, "%d things are held", cuda.live);
    cr_expect_eq(cuda.last, cudaSuccess, "an error is left for the next kernel launch to meet");
    cr_expect_not(cuda.capturing);
}

TestSuite(cudart_calls, .init = set_up, .fini = nothing_left);

static void open_device(int index)
{
    err why = {0};
    rt_info info;
    OK(rt_open(index, &info, &why));
    cuda.log[0] = '\0';
}

/* ---- the device ---- */

Test(cudart_calls, says_why_there_is_no_device)
{
    static const struct {
        int driver, count, capability, index;
        cudaError_t error;
        const char *visible, *text;
    } cases[] = {
        {0, 0, 90, -1, cudaErrorInsufficientDriver, NULL, "device=cuda: no NVIDIA driver on this machine"},
        {0, 0, 90, 3, cudaErrorInsufficientDriver, NULL, "device=cuda:3: no NVIDIA driver on this machine"},
        {13000, 0, 90, 0, cudaErrorStubLibrary, NULL, "device=cuda:0: no NVIDIA driver on this machine"},
        {11080, 0, 90, 0, cudaErrorInsufficientDriver, NULL,
         "the NVIDIA driver supports CUDA 11.8, but this build requires "},
        {13000, 0, 90, 0, cudaErrorSystemNotReady, NULL, "the NVIDIA driver fails: that went wrong"},
        {13000, 0, 90, -1, cudaErrorNoDevice, "", "there is no device (CUDA_VISIBLE_DEVICES is empty); use device=cpu"},
        {13000, 1, 90, 1, cudaSuccess, "GPU-7",
         "device=cuda:1: no such device: there is one device, cuda:0 (CUDA_VISIBLE_DEVICES is GPU-7); use one of "
         "these"},
        {13000, 4, 90, 4, cudaSuccess, NULL,
         "there are 4 devices, cuda:0 to cuda:3 (CUDA_VISIBLE_DEVICES is not set); use one of these or device=cpu"},
        {13000, 1, 75, 0, cudaSuccess, NULL, "device=cuda:0: the compute capability is 7.5, but this build requires "},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        err why = {0};
        rt_info info;
        set_up();
        cuda.driver = cases[i].driver;
        cuda.count = cases[i].count;
        cuda.capability = cases[i].capability;
        cuda.count_error = cases[i].error;
        if (cases[i].visible) (void)setenv("CUDA_VISIBLE_DEVICES", cases[i].visible, 1);
        cr_expect_eq(rt_open(cases[i].index, &info, &why), DDPM_EDEVICE);
        cr_expect(strstr(why.text, cases[i].text), "%s", why.text);
        cr_expect(strstr(why.text, "device=cpu"), "%s", why.text);
        cr_expect_eq(rt_present(), cases[i].index > 0 && cases[i].count > 0);
        cr_expect_str_eq(cuda.log, "", "it was touched");
        cr_expect_eq(cuda.last, cudaSuccess);
    }
}

Test(cudart_calls, tells_of_the_device)
{
    err why = {0};
    rt_info info;
    OK(rt_open(1, &info, &why));
    cr_expect(info.index == 1 && info.count == 2 && info.major == 9 && info.minor == 0 && info.sms == 132);
    cr_expect(info.driver == CUDART_VERSION && info.runtime == CUDART_VERSION && info.l2 == 50 << 20);
    cr_expect(info.total == (size_t)139 << 30 && info.shared == 232448);
    cr_expect_str_eq(info.name, "NVIDIA H200");
    cr_expect_str_eq(info.pci, "0000:01:00.0");
    cr_expect_eq(info.loops, CUDART_VERSION >= 12040);
    cr_expect_eq(current, 1);
    cuda.driver = 12030;
    OK(rt_open(-1, &info, &why));
    cr_expect_eq(info.index, 0);
    cr_expect_not(info.loops);
}

Test(cudart_calls, a_device_is_looked_at_and_not_taken)
{
    err why = {0};
    rt_info info;
    OK(rt_look(1, &info, &why));
    cr_expect(info.index == 1 && info.count == 2 && info.major == 9 && info.total == (size_t)139 << 30);
    cr_expect_str_eq(info.name, "NVIDIA H200");
    cr_expect_str_eq(cuda.log, "cudaGetDeviceProperties");
    cr_expect_eq(rt_look(2, &info, &why), DDPM_EDEVICE);
    cr_expect_eq(info.count, 2);
    cuda.fail_at = 1;
    cuda.calls = 0;
    cr_expect_eq(rt_look(0, &info, &why), DDPM_EDEVICE);
    cr_expect_str_eq(why.text, "device=cuda:0: cudaGetDeviceProperties: that went wrong");
    cr_expect_eq(rt_runtime(), CUDART_VERSION);
}

Test(cudart_calls, a_device_that_cannot_be_taken)
{
    for (int n = 1; n <= 4; n++) {
        err why = {0};
        rt_info info;
        set_up();
        cuda.fail_at = n;
        cr_expect_eq(rt_open(1, &info, &why), DDPM_EDEVICE);
        cr_expect_eq(strncmp(why.text, "device=cuda:1: cuda", 19), 0, "%s", why.text);
        cr_expect(strstr(why.text, ": that went wrong"), "%s", why.text);
        cr_expect_eq(cuda.last, cudaSuccess);
    }
}

/* CUDA's current device is a property of the thread. */
Test(cudart_calls, the_device_of_the_thread_is_set_and_given_back)
{
    open_device(1);
    cr_expect_eq(rt_use(-1), 1);
    cr_expect_eq(current, 1);
    cr_expect_eq(rt_use(0), 1);
    cr_expect_eq(current, 0);
    cr_expect_eq(rt_use(0), 0);
    cr_expect_eq(current, 0);
}

/* ---- memory and calls ---- */

Test(cudart_calls, memory_is_zeroed_before_anyone_sees_it)
{
    err why = {0};
    void *p;
    open_device(0);
    OK(rt_alloc(100, &p, &why));
    cr_expect_str_eq(cuda.log, "cudaMalloc cudaMemset cudaStreamSynchronize");
    for (int i = 0; i < 100; i++) cr_assert_eq(((char *)p)[i], 0);
    rt_free(p);
    OK(rt_alloc_host(100, &p, &why));
    for (int i = 0; i < 100; i++) cr_assert_eq(((char *)p)[i], 0);
    rt_free_host(p);
    OK(rt_alloc(0, &p, &why));
    cr_expect_null(p);
    rt_free(NULL);
    rt_free_host(NULL);
    cr_expect_eq(rt_memory_free(), (size_t)3 << 30);
}

Test(cudart_calls, says_how_much_memory_is_missing)
{
    err why = {0};
    void *p = &why;
    open_device(0);
    cuda.calls = 0;
    cuda.fail_at = 1;
    cuda.fail_with = cudaErrorMemoryAllocation;
    cr_expect_eq(rt_alloc((size_t)5 << 29, &p, &why), DDPM_ENOMEM);
    cr_expect_null(p);
    cr_expect_str_eq(why.text, "2.50 GiB of device memory are needed, but 3.00 GiB are free: use a smaller batch");
    cr_expect_eq(cuda.last, cudaSuccess);
    cuda.calls = 0;
    cr_expect_eq(rt_memory_free(), 0);
}

Test(cudart_calls, streams_and_events_are_of_the_kind_that_is_asked_for)
{
    err why = {0};
    void *stream[2], *event[2];
    float ms = 0.0f;
    open_device(0);
    OK(rt_stream_create(true, &stream[0], &why));
    OK(rt_stream_create(false, &stream[1], &why));
    const char *first = strstr(cuda.log, "cudaStreamCreateWithPriority:1,-5"); /* 1: cudaStreamNonBlocking */
    const char *second = strstr(cuda.log, "cudaStreamCreateWithPriority:1,0");
    cr_expect(first && second && first < second, "%s", cuda.log);
    cuda.log[0] = '\0';
    OK(rt_event_create(true, &event[0], &why));
    OK(rt_event_create(false, &event[1], &why));
    cr_expect_str_eq(cuda.log, "cudaEventCreateWithFlags:timed cudaEventCreateWithFlags:untimed");
    cuda.log[0] = '\0';
    OK(rt_event_ms(event[0], event[1], &ms, &why));
    cr_expect_str_eq(cuda.log, "cudaEventSynchronize cudaEventElapsedTime");
    cr_expect_eq(ms, 2.5f);
    for (int i = 0; i < 2; i++) {
        rt_stream_destroy(stream[i]);
        rt_event_destroy(event[i]);
    }
    rt_stream_destroy(NULL);
    rt_event_destroy(NULL);
}

Test(cudart_calls, copies_go_where_they_should)
{
    err why = {0};
    char a[4] = "abc", b[4] = "", c[4] = "", d[4] = "";
    open_device(0);
    OK(rt_upload(b, a, 4, NULL, &why));
    OK(rt_copy(c, b, 4, NULL, &why));
    OK(rt_download(d, c, 4, NULL, &why));
    cr_expect_str_eq(d, "abc");
    OK(rt_zero(d, 4, NULL, &why));
    cr_expect_str_eq(d, "");
    cr_expect_str_eq(cuda.log, "cudaMemcpyAsync:up cudaMemcpyAsync:across cudaMemcpyAsync:down cudaMemsetAsync");
    cuda.log[0] = '\0';
    OK(rt_upload(NULL, NULL, 0, NULL, &why));
    OK(rt_download(NULL, NULL, 0, NULL, &why));
    OK(rt_copy(NULL, NULL, 0, NULL, &why));
    OK(rt_zero(NULL, 0, NULL, &why));
    cr_expect_str_eq(cuda.log, "");
}

Test(cudart_calls, launches_are_asked_how_they_went)
{
    err why = {0};
    open_device(0);
    OK(rt_launched(DDPM_OK, &why));
    cuda.last = cudaErrorInvalidConfiguration;
    cr_expect_eq(rt_launched(DDPM_EBACKEND, &why), DDPM_EBACKEND);
    cr_expect_str_eq(why.text, "kernel launch: that went wrong");
    OK(rt_launched(DDPM_OK, &why));
    cr_expect_eq(rt_launched(DDPM_EINVAL, &why), DDPM_EINVAL);
    cr_expect_str_eq(why.text, "kernel launch: invalid arguments");
}

/* Uses all functions of cuda_rt.h once. */
static ddpm_status live(err *e)
{
    ddpm_status st = DDPM_OK;
    void *stream = NULL, *event = NULL, *other = NULL, *memory = NULL, *host = NULL;
    rt_graph *graph = NULL, *loop = NULL;
    int count = 1;
    float ms;
    TRY_GOTO(rt_stream_create(true, &stream, e));
    TRY_GOTO(rt_event_create(true, &event, e));
    TRY_GOTO(rt_event_create(false, &other, e));
    TRY_GOTO(rt_alloc(8, &memory, e));
    TRY_GOTO(rt_alloc_host(8, &host, e));
    TRY_GOTO(rt_upload(memory, host, 8, stream, e));
    TRY_GOTO(rt_event_record(event, stream, e));
    TRY_GOTO(rt_event_sync(event, e));
    TRY_GOTO(rt_stream_wait(stream, event, e));
    TRY_GOTO(rt_event_ms(event, other, &ms, e));
    TRY_GOTO(rt_graph_begin(stream, e));
    TRY_GOTO(rt_zero(memory, 8, stream, e));
    TRY_GOTO(rt_graph_end(stream, &graph, e));
    TRY_GOTO(rt_graph_launch(graph, stream, e));
    if (CUDART_VERSION >= 12040) {
        TRY_GOTO(rt_loop_begin(stream, &count, e));
        TRY_GOTO(rt_copy(memory, host, 8, stream, e));
        TRY_GOTO(rt_graph_end(stream, &loop, e));
        TRY_GOTO(rt_graph_launch(loop, stream, e));
    }
    TRY_GOTO(rt_download(host, memory, 8, stream, e));
    TRY_GOTO(rt_sync(stream, e));
done:
    if (st != DDPM_OK && stream && rt_graph_end(stream, NULL, NULL) != DDPM_OK) st = DDPM_EINVAL;
    rt_graph_destroy(graph);
    rt_graph_destroy(loop);
    rt_free(memory);
    rt_free_host(host);
    rt_event_destroy(event);
    rt_event_destroy(other);
    rt_stream_destroy(stream);
    return st;
}

Test(cudart_calls, every_failure_has_a_line_and_leaves_nothing)
{
    static const cudaError_t errors[] = {cudaErrorUnknown, cudaErrorMemoryAllocation};
    for (int k = 0; k < 2; k++) {
        int n = 1;
        for (;; n++) {
            err why = {0};
            set_up();
            open_device(0);
            cuda.calls = 0;
            cuda.fail_at = n;
            cuda.fail_with = errors[k];
            const ddpm_status st = live(&why);
            cr_assert_eq(cuda.live, 0, "call %d: %d things are held: %s", n, cuda.live, cuda.log);
            cr_assert_eq(cuda.last, cudaSuccess, "call %d: %s", n, cuda.log);
            cr_assert_not(cuda.capturing);
            if (st == DDPM_OK) break;
            cr_assert_eq(st, k ? DDPM_ENOMEM : DDPM_EBACKEND, "call %d: %s", n, why.text);
            cr_assert_neq(strchr(why.text, ':'), NULL, "%s", why.text);
        }
        cr_expect_geq(n, CUDART_VERSION >= 12040 ? 32 : 22, "only %d calls", n);
    }
}

/* ---- graphs ---- */

Test(cudart_calls, records_a_graph)
{
    err why = {0};
    void *stream;
    rt_graph *graph;
    open_device(0);
    OK(rt_stream_create(true, &stream, &why));
    cuda.log[0] = '\0';
    OK(rt_graph_begin(stream, &why));
    cr_expect(cuda.thread_local_mode);
    OK(rt_graph_end(stream, &graph, &why));
    OK(rt_graph_launch(graph, stream, &why));
    cr_expect_str_eq(cuda.log, "cudaStreamBeginCapture cudaStreamEndCapture cudaGraphInstantiate cudaGraphUpload "
                               "cudaGraphLaunch");
    cr_expect_eq(cuda.flags, (unsigned long long)cudaGraphInstantiateFlagUseNodePriority);
    cr_expect_eq(*(int *)cuda.executable_of, 2);
    rt_graph_destroy(graph);
    rt_graph_destroy(NULL);
    rt_stream_destroy(stream);
}

#if CUDART_VERSION >= 12040
Test(cudart_calls, records_the_body_of_a_loop)
{
    err why = {0};
    void *stream;
    rt_graph *graph;
    int count;
    open_device(0);
    OK(rt_stream_create(true, &stream, &why));
    cuda.log[0] = '\0';
    OK(rt_loop_begin(stream, &count, &why));
    cr_expect(cuda.thread_local_mode);
    cr_expect_eq(cuda.handle_default, 1);
    cr_expect_eq(cuda.handle_flags, cudaGraphCondAssignDefault);
    cr_expect_eq(cuda.node.type, cudaGraphNodeTypeConditional);
    cr_expect_eq(cuda.node.conditional.type, cudaGraphCondTypeWhile);
    cr_expect_eq(cuda.node.conditional.size, 1);
    cr_expect_eq(cuda.node.conditional.handle, 4711);
    OK(rt_graph_end(stream, &graph, &why));
    cr_expect_str_eq(cuda.log, "cudaGraphCreate cudaGraphConditionalHandleCreate cudaGraphAddNode "
                               "cudaStreamBeginCaptureToGraph cudaThreadExchangeStreamCaptureMode k_loop_next "
                               "cudaThreadExchangeStreamCaptureMode cudaStreamEndCapture cudaGraphInstantiate "
                               "cudaGraphUpload");
    cr_expect_eq(cuda.mode, cudaStreamCaptureModeGlobal, "not as it was");
    cr_expect(cuda.next_stream == stream && cuda.next.count == &count && cuda.next.handle == 4711);
    cr_expect_eq(*(int *)cuda.executable_of, 1, "not the outer graph");
    rt_graph_destroy(graph);
    rt_stream_destroy(stream);
}
#endif

Test(cudart_calls, a_recording_that_fails_leaves_the_stream_usable)
{
    err why = {0};
    void *stream;
    rt_graph *graph = NULL;
    int count;
    open_device(0);
    OK(rt_stream_create(true, &stream, &why));
    for (int loop = 0; loop <= (CUDART_VERSION >= 12040); loop++)
        for (int invalid = 0; invalid < 2; invalid++) {
            cuda.in_body = false;
            cuda.invalid = invalid;
            OK(loop ? rt_loop_begin(stream, &count, &why) : rt_graph_begin(stream, &why));
            OK(rt_graph_end(stream, NULL, &why));
            cr_expect_eq(cuda.live, 1, "the stream, and no graph");
            cr_expect_eq(cuda.last, cudaSuccess);
            OK(loop ? rt_loop_begin(stream, &count, &why) : rt_graph_begin(stream, &why));
            cr_expect_eq(rt_graph_end(stream, &graph, &why), invalid ? DDPM_EBACKEND : DDPM_OK);
            cr_expect_eq(graph == NULL, invalid);
            if (invalid) cr_expect_str_eq(why.text, "cudaStreamEndCapture: that went wrong");
            rt_graph_destroy(graph);
            cr_expect_eq(cuda.live, 1);
        }
    rt_stream_destroy(stream);
}

Test(cudart_calls, one_recording_at_a_time)
{
    err why = {0};
    void *stream, *other;
    rt_graph *graph;
    int count;
    open_device(0);
    OK(rt_stream_create(true, &stream, &why));
    OK(rt_stream_create(true, &other, &why));
    cr_expect_eq(rt_graph_end(stream, &graph, &why), DDPM_EBACKEND);
    OK(rt_graph_end(stream, NULL, &why));
    OK(rt_graph_begin(stream, &why));
    cr_expect_eq(rt_graph_begin(other, &why), DDPM_EBACKEND);
    cr_expect_eq(rt_loop_begin(other, &count, &why), DDPM_EBACKEND);
    cr_expect_str_eq(why.text, "CUDA graph: a capture is already in progress");
    cr_expect_eq(rt_graph_end(other, &graph, &why), DDPM_EBACKEND);
    OK(rt_graph_end(other, NULL, &why));
    cr_expect(cuda.capturing, "the other's recording was ended");
    OK(rt_graph_end(stream, &graph, &why));
    rt_graph_destroy(graph);
    rt_stream_destroy(stream);
    rt_stream_destroy(other);
}
