/* cuda_rt.h - the part of the CUDA runtime that the cuda backend uses.
 *
 * cuda_rt.c and cuda_rt_graph.c implement this header with the CUDA runtime; the tests link an emulated runtime
 * instead, which keeps "device" memory on the host, runs kernels as C++ and can make any call fail.  So all code
 * above this header is the same in both.
 *
 * Every function that takes an err sets it to one line that names the call and CUDA's reason. */
#ifndef DDPM_CUDA_RT_H
#define DDPM_CUDA_RT_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct rt_info {
    int index, count;    /* of this device among the visible ones; their number */
    int major, minor;    /* compute capability */
    int sms;             /* multiprocessors */
    int driver, runtime; /* versions in CUDA's numbering: 13000 is 13.0 */
    size_t total, l2;    /* bytes of memory and of second-level cache */
    size_t shared;       /* largest shared memory of a block in bytes */
    bool loops;          /* are WHILE nodes available in graphs? (CUDA 12.4 and newer) */
    char name[80];       /* "NVIDIA H200" */
    char pci[20];        /* "0000:04:00.0" */
} rt_info;

/* CUDA's current device is a property of the host thread.  rt_use() makes `device` the current one (-1: no change; no
 * change either if the process has not used that device: that would create a context) and returns the one before, -1 if
 * unknown.  The functions below, and kernel launches, expect that the device of their stream and memory is current;
 * rt_open() makes the opened device current. */
int rt_use(int device);

/* Open device number `index`, or the first one for -1.  DDPM_EDEVICE with one of four messages: no driver; a driver
 * older than this build's CUDA; no such device; an architecture that the kernels were not built for. */
DDPM_MUST_CHECK ddpm_status rt_open(int index, rt_info *info, err *e);
/* Is any device available?  Sets no error. */
bool rt_present(void);
/* Properties that can be read without opening the device: index, count, major, minor, driver, runtime, name and total;
 * a property that cannot be read is 0.  Statuses as rt_open(). */
DDPM_MUST_CHECK ddpm_status rt_look(int index, rt_info *info, err *e);
int rt_runtime(void); /* CUDA version of this build; needs no device */

DDPM_MUST_CHECK ddpm_status rt_alloc(size_t bytes, void **out, err *e); /* DDPM_ENOMEM: out of memory; zeroed */
void rt_free(void *memory);                                             /* takes NULL */
DDPM_MUST_CHECK ddpm_status rt_alloc_host(size_t bytes, void **out,
                                          err *e); /* pinned: copies from it are asynchronous */
void rt_free_host(void *memory);                   /* takes NULL */
size_t rt_memory_free(void);                       /* free device memory in bytes; 0 where unknown */

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

/* Asynchronous on the stream; host memory must not change until the copy is done. */
DDPM_MUST_CHECK ddpm_status rt_upload(void *to, const void *from_host, size_t bytes, void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_download(void *to_host, const void *from, size_t bytes, void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_copy(void *to, const void *from, size_t bytes, void *stream, err *e);
DDPM_MUST_CHECK ddpm_status rt_zero(void *at, size_t bytes, void *stream, err *e);

/* Status of the kernel launches so far: DDPM_EBACKEND with CUDA's message if a launch was refused. */
DDPM_MUST_CHECK ddpm_status rt_launched(ddpm_status launch, err *e);

/* ---- graphs: work captured between begin and end, replayed by one launch ---- */

typedef struct rt_graph rt_graph;

/* From now on capture work on this stream (and on streams that wait for it) instead of running it. */
DDPM_MUST_CHECK ddpm_status rt_graph_begin(void *stream, err *e);
/* The same, but the captured work is the body of a loop: each launch runs the body *count times.  *count, in device
 * memory, must be at least 1 at the launch and is 0 after the launch.  Only where rt_info.loops. */
DDPM_MUST_CHECK ddpm_status rt_loop_begin(void *stream, int *count, err *e);
/* Ends either kind of capture.  After a failure in the capture, call with out = NULL: the stream is usable again. */
DDPM_MUST_CHECK ddpm_status rt_graph_end(void *stream, rt_graph **out, err *e);
DDPM_MUST_CHECK ddpm_status rt_graph_launch(rt_graph *graph, void *stream, err *e);
void rt_graph_destroy(rt_graph *graph); /* takes NULL */

#endif
