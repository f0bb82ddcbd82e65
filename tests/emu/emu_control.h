/* emu_control.h - the tests' control over the emulated device, for C and C++.
 *
 * tests/emu/emu_*.cpp implement cuda_rt.h, cudnn_problem.h and cublas_gemm.h without a GPU.  "Device" memory is host
 * memory, every block malloc'ed exactly.  Under AddressSanitizer the host code must not touch it: it is poisoned except
 * while emulated work runs.  Calls that CUDA rejects are rejected with CUDA's reason.  What CUDA leaves undefined (a
 * pointer to host memory as an operand, a block freed twice) is an error too, and sticky as a device error: all later
 * calls fail with the same text.
 *
 * Not modelled: time, real parallelism, other processes' use of the device. */
#ifndef DDPM_EMU_CONTROL_H
#define DDPM_EMU_CONTROL_H
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { EMU_PLANS = 3, EMU_LARGE_WORKSPACE = 1 << 20 };

typedef struct emu_device {
    const char *name;
    int count, major, minor, sms, driver, runtime;
    size_t total, l2, shared; /* bytes; rt_alloc() fails beyond total */
    bool loops;               /* are WHILE nodes available in graphs? */
    int attention;            /* the widest head that cudnn_attention_create() has algos for; 0: it has none */
    const char *refusal;      /* not NULL: rt_open() fails with this text */
    /* Emulated microseconds of a primitive's three algos.  Algo 0 needs no workspace, 1 needs 256 bytes, 2, which is
     * not deterministic, needs EMU_LARGE_WORKSPACE; by default 1 is the fastest. */
    double algo_us[EMU_PLANS];
    double scale;        /* not 0: results of convolutions are multiplied by it (a wrong engine) */
    bool ignores_waits;  /* rt_stream_wait() does nothing outside captures (a missing synchronization) */
    const char *missing; /* not NULL: cuda_library_load() of the library of this name fails without a folder */
} emu_device;

/* The device; change its properties before it is opened.  Defaults: 4 multiprocessors, 1 GiB, 1 MiB of cache, sm_90. */
emu_device *emu_get_device(void);

/* When work runs for which the streams allow several times.  Side streams are the streams that have waited for another
 * stream's event; in a capture, the streams that were forked from the one where the capture began. */
typedef enum emu_timing {
    EMU_AT_ONCE,    /* in the order it was enqueued */
    EMU_SIDE_EARLY, /* in replays, side work as soon as its dependencies allow */
    EMU_SIDE_LATE,  /* side work only when the host or another stream waits for it */
    EMU_ALL_LATE,   /* all work only when the host waits for it: host memory must stay valid until then */
} emu_timing;
void emu_set_timing(emu_timing t);
/* How often, since emu_set_timing(), the host waited for work that had not run yet. */
long emu_waits(void);

/* The order of the threads in a kernel: 0 forward, 1 reverse, 2 shuffled.  Does not clear errors. */
void emu_set_threads(int order, unsigned seed);

/* Starts counting the calls that can fail (emu_faults.h); call n, counted from 1, fails; 0: none. */
void emu_fail_at(long n);
long emu_calls(void);

/* Counts the kernel as launched before: CUDA loads a kernel's code at its first launch, which is refused in a capture. */
void emu_load_kernel(const char *name);

/* Work that is only counted is not done, apart from the launch of a graph, and device memory is not written: steps of
 * real sizes take seconds.  Turning it on or off forgets the counts.  Loops need their work done. */
void emu_count_only(bool on);
/* Calls `each` for every name of work with the number of its runs: a kernel's name, a primitive's key, or the call that
 * enqueued a copy or a fill.  In order of the names. */
void emu_counted(void (*each)(void *context, const char *name, int times), void *context);

/* The sticky error, "" for none. */
const char *emu_last_error(void);

/* Resets to the initial state: no error, no injected failure, the default device and timing. */
void emu_reset(void);

typedef struct emu_counts {
    int memory, host_memory, streams, events, graphs, primitives, contexts;
    size_t bytes; /* allocated device memory */
} emu_counts;
emu_counts emu_live(void);
int emu_live_total(void); /* the sum of all counts but the bytes */

#ifdef __cplusplus
}
#endif
#endif
