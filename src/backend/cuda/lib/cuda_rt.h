/* cuda_rt.h - what the cuda backend asks of the CUDA runtime, and nothing more.
 *
 * cuda_rt.c and cuda_rt_graph.c answer with the runtime itself; the tests link an emulated runtime instead, which keeps
 * "device" memory on the host, runs kernels as C++ and can fail any call on purpose.  So everything
 * above this header is the same code on both.
 *
 * Every function that takes an err sets it to one line that names the call and CUDA's reason. */
#ifndef DDPM_CUDA_RT_H
#define DDPM_CUDA_RT_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct rt_info {
    int index, count;    /* of the device among those visible; how many there are */
    int major, minor;    /* compute capability */
    int sms;             /* multiprocessors */
    int driver, runtime; /* as CUDA numbers them: 13000 is 13.0 */
    size_t total, l2;    /* bytes of memory and of second-level cache */
    size_t shared;       /* bytes of shared memory that one block may ask for */
    bool loops;          /* WHILE nodes in graphs (CUDA 12.4 and newer) */
    char name[80];       /* "NVIDIA H200" */
    char pci[20];        /* "0000:04:00.0" */
} rt_info;

/* Take a device, by its number or -1 for the first.  DDPM_EDEVICE with one of four messages: no
 * driver; a driver older than this build's CUDA; no such device; an architecture the kernels were not
 * built for. */
DDPM_MUST_CHECK ddpm_status rt_open(int index, rt_info *info, err *e);
/* Does any device answer?  Quiet. */
bool rt_present(void);
/* What can be told of it without taking it: index, count, major, minor, driver, runtime, name and total; what cannot is 0.
 * Statuses as rt_open(). */
DDPM_MUST_CHECK ddpm_status rt_look(int index, rt_info *info, err *e);
int rt_runtime(void); /* of this build; asks no device */

DDPM_MUST_CHECK ddpm_status rt_alloc(size_t bytes, void **out, err *e); /* DDPM_ENOMEM: it does not fit; zeroed */
void rt_free(void *memory);                                             /* takes NULL */
DDPM_MUST_CHECK ddpm_status rt_alloc_host(size_t bytes, void **out,
                                          err *e); /* pinned: copies from it are asynchronous */
void rt_free_host(void *memory);                   /* takes NULL */
size_t rt_memory_free(void);                       /* bytes; 0 where it cannot be told */

/* Streams and events; destroy takes NULL. */
DDPM_MUST_CHECK ddpm_status rt_stream_create(bool urgent, void **out, err *e);
void rt_stream_destroy(void *stream);
DDPM_MUST_CHECK ddpm_status rt_sync(void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_event_create(bool timed, void **out, err *e);
void rt_event_destroy(void *event);
DDPM_MUST_CHECK ddpm_status rt_event_record(void *event, void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_event_sync(void *event, err *e);
DDPM_MUST_CHECK ddpm_status rt_stream_wait(void *stream, void *event, err *e);
DDPM_MUST_CHECK ddpm_status rt_event_ms(void *from, void *to, float *ms, err *e); /* waits for `to` */

/* Asynchronous on the stream; host memory must stay as it is until the stream got there. */
DDPM_MUST_CHECK ddpm_status rt_upload(void *to, const void *from_host, size_t bytes, void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_download(void *to_host, const void *from, size_t bytes, void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_copy(void *to, const void *from, size_t bytes, void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_zero(void *at, size_t bytes, void *stream, err *e);

/* Status of the kernel launches so far: DDPM_EBACKEND with CUDA's words if one was refused. */
DDPM_MUST_CHECK ddpm_status rt_launched(ddpm_status launch, err *e);

/* ---- graphs: work recorded between begin and end, run again by one launch ---- */

typedef struct rt_graph rt_graph;

/* Record what is put on the stream (and on streams that wait for it) from now on, instead of running it. */
DDPM_MUST_CHECK ddpm_status rt_graph_begin(void *stream, err *e);
/* The same, and the recorded work is the body of a loop: each launch runs it *count times.  *count,
 * device memory, must be at least 1 at the launch and is 0 after it.  Only where rt_info.loops. */
DDPM_MUST_CHECK ddpm_status rt_loop_begin(void *stream, int *count, err *e);
/* End either.  After a failure in between, call it with out = NULL: the stream is usable again. */
DDPM_MUST_CHECK ddpm_status rt_graph_end(void *stream, rt_graph **out, err *e);
DDPM_MUST_CHECK ddpm_status rt_graph_launch(rt_graph *graph, void *stream, err *e);
void rt_graph_destroy(rt_graph *graph); /* takes NULL */

#endif
