/* emu_runtime.h - shared by the parts of the emulated runtime. */
#ifndef DDPM_EMU_RUNTIME_H
#define DDPM_EMU_RUNTIME_H
#include "emu/cuda_emu.h"
#include "emu/emu_control.h"
#include "emu/emu_faults.h"

#include <functional>
#include <string>
extern "C" {
#include "backend/cuda/lib/cuda_rt.h"
}

namespace emu
{
/* Call first in every function that can fail: counts the call, and returns an error if a failure is injected (then
 * `status`) or after an earlier error. */
ddpm_status enter(const char *call, ddpm_status status, err *e);

#define ENTER_OR(status, e)                                                                                            \
    do {                                                                                                               \
        const ddpm_status entered_ = emu::enter(__func__, status, e);                                                  \
        if (entered_ != DDPM_OK) return entered_;                                                                      \
    } while (0)
#define ENTER(e) ENTER_OR(DDPM_EBACKEND, e)

/* ---- streams ---- */

/* Runs the work, postpones it or captures it.  DDPM_EBACKEND: the stream cannot accept work. */
ddpm_status enqueue(void *stream, const char *what, double us, std::function<void()> run, err *e);
bool recording(void *stream);
bool recording_loop(void *stream); /* is the body of a loop captured? */
/* Is any stream capturing?  Then a forbidden call must return spoil(): it invalidates the captures and returns
 * DDPM_EBACKEND. */
bool recording_anywhere();
ddpm_status spoil(const char *call, err *e);
/* Runs all postponed work. */
void finish_everything();
void set_timing(emu_timing t);
long host_waits();
void set_count_only(bool on);
bool counts_only();
void count_streams(emu_counts *c);

/* ---- memory ---- */

bool on_device(const void *at, size_t bytes); /* inside one block of rt_alloc() */
bool pinned(const void *at, size_t bytes);
/* Between these two calls emulated work may touch device memory; pairs may be nested. */
void open_memory();
void close_memory();

/* ---- primitives ---- */
void count_primitives(emu_counts *c);
} // namespace emu

#endif
