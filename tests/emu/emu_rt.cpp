/* Devices, memory and copies of cuda_rt.h, and emu_control.h. */
#include "emu/emu_runtime.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes)   ((void)(at), (void)(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) ((void)(at), (void)(bytes))
#endif

namespace emu
{
namespace
{
/* Poisoning writes an eighth of the memory's size at every launch: above this many bytes it is not done. */
constexpr size_t guarded_most = 8 << 20;
constexpr size_t alignment = 256; /* as cudaMalloc's */

using block_map = std::map<const char *, size_t>;
block_map device_blocks, host_blocks;
size_t device_bytes;
int opened; /* depth of open_memory() */

const emu_device factory = {"emulated",
                            1,
                            9,
                            0,
                            4,
                            13000,
                            13000,
                            (size_t)1 << 30,
                            (size_t)1 << 20,
                            (size_t)227 * 1024,
                            true,
                            128,
                            nullptr,
                            {600.0, 300.0, 450.0}};
emu_device the_device = factory;
thread_local int the_current_device = 0;

bool within(const block_map &blocks, const void *at, size_t bytes)
{
    auto block = blocks.upper_bound(static_cast<const char *>(at));
    if (block == blocks.begin()) return false;
    --block;
    const auto offset = (size_t)(static_cast<const char *>(at) - block->first);
    return offset <= block->second && bytes <= block->second - offset;
}

void guard(bool closed)
{
    if (device_bytes > guarded_most) return;
    for (const auto &block : device_blocks)
        if (closed)
            ASAN_POISON_MEMORY_REGION(block.first, block.second);
        else
            ASAN_UNPOISON_MEMORY_REGION(block.first, block.second);
}

void release(block_map &blocks, void *memory, const char *call)
{
    const auto block = blocks.find(static_cast<const char *>(memory));
    if (block == blocks.end()) return fail("%s: invalid argument: %p was not allocated so", call, memory);
    ASAN_UNPOISON_MEMORY_REGION(block->first, block->second);
    blocks.erase(block);
    free(memory);
}

ddpm_status allocate(block_map &blocks, size_t bytes, void **out, err *e)
{
    if (posix_memalign(out, alignment, bytes))
        return err_set(e, DDPM_ENOMEM, "the host has no %zu bytes for the emulated device", bytes);
    if (!counts_only() || &blocks != &device_blocks) memset(*out, 0, bytes); /* untouched memory takes none */
    blocks[static_cast<char *>(*out)] = bytes;
    return DDPM_OK;
}

ddpm_status not_device(const char *call, const char *which, const void *at, size_t bytes, err *e)
{
    return err_set(e, DDPM_EBACKEND, "%s: invalid argument: %s (%zu bytes at %p) is not device memory", call, which,
                   bytes, at);
}

/* In a capture CUDA allows pageable memory at best as a synchronous copy: rejected here. */
ddpm_status check_host(const char *call, const void *at, size_t bytes, void *stream, err *e)
{
    if (on_device(at, 1))
        return err_set(e, DDPM_EBACKEND, "%s: invalid argument: host memory expected, %p is the device's", call, at);
    if (recording(stream) && !pinned(at, bytes)) return spoil(call, e);
    if (recording_loop(stream)) return spoil(call, e); /* a loop's body holds kernels and work on device memory alone */
    return DDPM_OK;
}
} // namespace

ddpm_status enter(const char *call, ddpm_status status, err *e)
{
    if (const char *injected = failure_of(call)) {
        if (recording_anywhere()) (void)spoil(call, nullptr);
        return err_set(e, status, "%s", injected);
    }
    if (last_error()[0]) return err_set(e, DDPM_EBACKEND, "%s: %s", call, last_error());
    return DDPM_OK;
}

bool on_device(const void *at, size_t bytes) { return within(device_blocks, at, bytes); }
bool pinned(const void *at, size_t bytes) { return within(host_blocks, at, bytes); }

void open_memory()
{
    if (opened++ == 0) guard(false);
}

void close_memory()
{
    if (--opened == 0) guard(true);
}
} // namespace emu

using namespace emu;

/* ---- the device ---- */

ddpm_status rt_look(int index, rt_info *info, err *e)
{
    *info = {};
    const emu_device &d = the_device;
    info->count = d.refusal ? 0 : d.count;
    info->driver = d.driver, info->runtime = d.runtime;
    if (d.refusal) return err_set(e, DDPM_EDEVICE, "%s", d.refusal);
    if (index >= d.count)
        return err_set(e, DDPM_EDEVICE, "device=cuda:%d: no such device: there are %d", index, d.count);
    info->index = index < 0 ? 0 : index;
    info->major = d.major, info->minor = d.minor;
    info->total = d.total;
    snprintf(info->name, sizeof info->name, "%s", d.name);
    return DDPM_OK;
}

int rt_runtime() { return the_device.runtime; }

ddpm_status rt_open(int index, rt_info *info, err *e)
{
    *info = {};
    ENTER_OR(DDPM_EDEVICE, e);
    TRY(rt_look(index, info, e));
    const emu_device &d = the_device;
    info->sms = d.sms;
    info->l2 = d.l2, info->shared = d.shared;
    info->loops = d.loops;
    snprintf(info->pci, sizeof info->pci, "0000:%02x:00.0", (unsigned)info->index & 0xFFu);
    set_shared_most(d.shared);
    the_current_device = info->index;
    return DDPM_OK;
}

int rt_use(int device)
{
    const int was = the_current_device;
    if (device >= 0) the_current_device = device;
    return was;
}

bool rt_present(void) { return !the_device.refusal && the_device.count > 0; }

/* ---- memory ---- */

ddpm_status rt_alloc(size_t bytes, void **out, err *e)
{
    *out = nullptr;
    ENTER_OR(DDPM_ENOMEM, e);
    if (recording_anywhere()) return spoil(__func__, e);
    if (bytes == 0) return DDPM_OK;
    if (bytes > rt_memory_free())
        return err_set(e, DDPM_ENOMEM, "out of device memory: %zu bytes are needed at once, %zu are free", bytes,
                       rt_memory_free());
    open_memory(); /* guard() depends on the total: unpoison with the old one, poison with the new one */
    const ddpm_status st = allocate(device_blocks, bytes, out, e);
    if (st == DDPM_OK) device_bytes += bytes;
    close_memory();
    return st;
}

void rt_free(void *memory)
{
    if (!memory) return;
    if (recording_anywhere()) (void)spoil(__func__, nullptr);
    finish_everything(); /* cudaFree synchronizes too */
    open_memory();
    const auto block = device_blocks.find(static_cast<char *>(memory));
    if (block != device_blocks.end()) device_bytes -= block->second;
    release(device_blocks, memory, __func__);
    close_memory();
}

ddpm_status rt_alloc_host(size_t bytes, void **out, err *e)
{
    *out = nullptr;
    ENTER_OR(DDPM_ENOMEM, e);
    if (recording_anywhere()) return spoil(__func__, e);
    return bytes ? allocate(host_blocks, bytes, out, e) : DDPM_OK;
}

void rt_free_host(void *memory)
{
    if (!memory) return;
    if (recording_anywhere()) (void)spoil(__func__, nullptr);
    finish_everything();
    release(host_blocks, memory, __func__);
}

size_t rt_memory_free(void) { return the_device.total - std::min(the_device.total, device_bytes); }

/* ---- copies ---- */

ddpm_status rt_upload(void *to, const void *from_host, size_t bytes, void *stream, err *e)
{
    ENTER(e);
    if (!bytes) return DDPM_OK;
    if (!on_device(to, bytes)) return not_device(__func__, "the target", to, bytes, e);
    TRY(check_host(__func__, from_host, bytes, stream, e));
    return enqueue(
        stream, __func__, 1.0, [=] { memcpy(to, from_host, bytes); }, e);
}

ddpm_status rt_download(void *to_host, const void *from, size_t bytes, void *stream, err *e)
{
    ENTER(e);
    if (!bytes) return DDPM_OK;
    if (!on_device(from, bytes)) return not_device(__func__, "the source", from, bytes, e);
    TRY(check_host(__func__, to_host, bytes, stream, e));
    return enqueue(
        stream, __func__, 1.0, [=] { memcpy(to_host, from, bytes); }, e);
}

ddpm_status rt_copy(void *to, const void *from, size_t bytes, void *stream, err *e)
{
    ENTER(e);
    if (!bytes) return DDPM_OK;
    if (!on_device(to, bytes)) return not_device(__func__, "the target", to, bytes, e);
    if (!on_device(from, bytes)) return not_device(__func__, "the source", from, bytes, e);
    return enqueue(
        stream, __func__, 1.0, [=] { memcpy(to, from, bytes); }, e);
}

ddpm_status rt_zero(void *at, size_t bytes, void *stream, err *e)
{
    ENTER(e);
    if (!bytes) return DDPM_OK;
    if (!on_device(at, bytes)) return not_device(__func__, "the target", at, bytes, e);
    return enqueue(
        stream, __func__, 1.0, [=] { memset(at, 0, bytes); }, e);
}

/* Not counted as a call: the launch was counted. */
ddpm_status rt_launched(ddpm_status launch, err *e)
{
    if (last_error()[0]) return err_set(e, DDPM_EBACKEND, "kernel launch: %s", last_error());
    return launch == DDPM_OK ? launch : err_set(e, launch, "kernel launch: invalid arguments");
}

/* ---- control ---- */

emu_device *emu_get_device(void) { return &the_device; }
void emu_set_timing(emu_timing t) { set_timing(t); }
long emu_waits(void) { return host_waits(); }
void emu_count_only(bool on) { set_count_only(on); }
void emu_fail_at(long n) { fail_at(n); }
long emu_calls(void) { return calls(); }
const char *emu_last_error(void) { return last_error(); }
void emu_set_threads(int order, unsigned seed) { set_threads(static_cast<emu::order>(order), seed); }

void emu_reset(void)
{
    set_order(order::forward);
    fail_at(0);
    set_timing(EMU_AT_ONCE);
    set_count_only(false);
    the_device = factory;
}

emu_counts emu_live(void)
{
    emu_counts c = {};
    c.memory = (int)device_blocks.size();
    c.host_memory = (int)host_blocks.size();
    c.bytes = device_bytes;
    count_streams(&c);
    count_primitives(&c);
    return c;
}

int emu_live_total(void)
{
    const emu_counts c = emu_live();
    return c.memory + c.host_memory + c.streams + c.events + c.graphs + c.primitives + c.contexts;
}
