/* emu_runtime.h - what the parts of the emulated runtime share. */
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
/* To be called first by everything that can fail: counts it, and fails on purpose (with `status`) or
 * because of an earlier error. */
ddpm_status enter(const char *call, ddpm_status status, err *e);

#define ENTER_OR(status, e)                                                                                            \
    do {                                                                                                               \
        const ddpm_status entered_ = emu::enter(__func__, status, e);                                                  \
        if (entered_ != DDPM_OK) return entered_;                                                                      \
    } while (0)
#define ENTER(e) ENTER_OR(DDPM_EBACKEND, e)

/* ---- streams ---- */

/* Run the work, postpone it or record it.  DDPM_EBACKEND: the stream takes none. */
ddpm_status enqueue(void *stream, const char *what, double us, std::function<void()> run, err *e);
bool recording(void *stream);
/* Some stream is recording: then `call` is forbidden and spoils the recordings.  Returns DDPM_EBACKEND. */
bool recording_anywhere();
ddpm_status spoil(const char *call, err *e);
/* Run all that is postponed. */
void finish_everything();
void set_timing(emu_timing t);
void count_streams(emu_counts *c);

/* ---- memory ---- */

bool on_device(const void *at, size_t bytes); /* within one block of rt_alloc() */
bool pinned(const void *at, size_t bytes);
/* Emulated work may touch device memory between these two; they nest. */
void open_memory();
void close_memory();

/* ---- primitives ---- */
void count_primitives(emu_counts *c);
} // namespace emu

#endif
