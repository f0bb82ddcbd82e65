/* emu_control.h - the emulated device as a test sets it up, for C and C++.
 *
 * tests/emu/emu_*.cpp answer cuda_rt.h, cudnn_problem.h and cublas_gemm.h without a GPU.  "Device" memory lies
 * on the host, every block malloc'ed exactly.  Under AddressSanitizer the host's code must not touch it:
 * it is poisoned but for the time emulated work runs.  What CUDA refuses is refused with CUDA's reason,
 * what it leaves undefined (a pointer to host memory as an operand, a block freed twice) is an error too,
 * and sticks as an error of the device does: all later calls fail with the same text.
 *
 * Not shown: time, real parallelism, other processes' use of the device. */
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
    bool loops;               /* WHILE nodes */
    bool attention;           /* false: cudnn_attention_create() has no algo */
    const char *refusal;      /* not NULL: rt_open() fails with this text */
    /* Emulated microseconds of a primitive's algos.  0 wants no workspace, 1 wants 256 bytes, 2, which may
     * not be deterministic, EMU_LARGE_WORKSPACE; 1 is the fastest to begin with. */
    double algo_us[EMU_PLANS];
} emu_device;

/* The device, to be changed before it is opened: 4 multiprocessors, 1 GiB, 1 MiB of cache, sm_90. */
emu_device *emu_get_device(void);

/* When does work run that the streams leave free?  Streams that waited for another one's event are side
 * streams, in a recording those that were forked from the one it began on. */
typedef enum emu_timing {
    EMU_AT_ONCE,    /* in the order it was enqueued */
    EMU_SIDE_EARLY, /* replays: side work as soon as its dependencies allow */
    EMU_SIDE_LATE,  /* side work only when somebody waits for it */
    EMU_ALL_LATE,   /* all work only when the host waits for it: host memory must live that long */
} emu_timing;
void emu_set_timing(emu_timing t);

/* The order of the threads in a kernel: 0 forward, 1 reverse, 2 shuffled.  Does not forget errors. */
void emu_set_threads(int order, unsigned seed);

/* Begin to count the calls that can fail (emu_faults.h); call n from 1 fails, 0: none. */
void emu_fail_at(long n);
long emu_calls(void);

/* The error that sticks, "" for none. */
const char *emu_last_error(void);

/* As after the start: no error, no failure to come, the device and the timing as they were. */
void emu_reset(void);

typedef struct emu_counts {
    int memory, host_memory, streams, events, graphs, primitives, contexts;
    size_t bytes; /* of device memory */
} emu_counts;
emu_counts emu_live(void);
int emu_live_total(void); /* of all but the bytes */

#ifdef __cplusplus
}
#endif
#endif
