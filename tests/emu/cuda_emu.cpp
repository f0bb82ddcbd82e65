#include "emu/cuda_emu.h"
#include "emu/emu_faults.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <sys/mman.h>
#include <ucontext.h>
#include <vector>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emu
{
index *cur;

namespace
{
constexpr unsigned warp_lanes = 32, max_threads = 1024;
constexpr size_t page = 4096, stack_bytes = 128 * 1024;
constexpr size_t shared_limit_default = 48 * 1024; /* bytes that a block may use without SHARED_LIMIT */

enum class state { ready, at_barrier, at_meeting, done };

struct fiber {
    ucontext_t context;
    char *memory; /* a guard page, then the stack */
    index idx;
    state now = state::done;
    bool started = false; /* the context waits in enter() or in a kernel */
    place at = {};
    /* at a shuffle or vote: this lane's operation, operands and result */
    collective kind = collective::sync;
    unsigned mask = 0;
    int source = 0;
    uint64_t value = 0, result = 0;

    fiber()
        : memory(static_cast<char *>(mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE,
                                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)))
    {
        if (memory == MAP_FAILED || mprotect(memory, page, PROT_NONE) != 0) {
            perror("emu: the stack of a fiber");
            abort();
        }
    }
    ~fiber() { munmap(memory, page + stack_bytes); }
    char *stack() const { return memory + page; }
};

using block_memory = std::unique_ptr<void, void (*)(void *)>;

std::vector<std::unique_ptr<fiber>> pool;
std::map<const void *, block_memory> block_shared;
std::map<const void *, size_t> shared_limits; /* SHARED_LIMIT of each kernel */
size_t shared_most = 227 * 1024, shared_used;
const geometry *shape;
const std::function<void()> *body;
sink work_sink;
ucontext_t scheduler;
unsigned running, n_threads;
order run_order = order::forward;
std::mt19937 rng{1};
char error[512];

/* ---- errors ---- */

struct text {
    char s[200];
};

text name_of(const fiber &f)
{
    text t;
    const dim3 b = f.idx.block, i = f.idx.thread;
    snprintf(t.s, sizeof t.s, "%s: block (%u,%u,%u): thread (%u,%u,%u)", shape->name, b.x, b.y, b.z, i.x, i.y, i.z);
    return t;
}

text whereabouts(const fiber &f)
{
    text t;
    const dim3 i = f.idx.thread;
    if (f.now == state::done)
        snprintf(t.s, sizeof t.s, "thread (%u,%u,%u) has exited", i.x, i.y, i.z);
    else
        snprintf(t.s, sizeof t.s, "thread (%u,%u,%u) waits in %s at %s:%d", i.x, i.y, i.z, f.at.what, f.at.file,
                 f.at.line);
    return t;
}

void report_deadlock(const fiber &waiting, const fiber &missing)
{
    fail("%s waits in %s at %s:%d, but %s", name_of(waiting).s, waiting.at.what, waiting.at.file, waiting.at.line,
         whereabouts(missing).s);
}

/* ---- fibers; AddressSanitizer must be notified of every change of stack ---- */

#if defined(__SANITIZE_ADDRESS__)
const void *scheduler_stack;
size_t scheduler_bytes;
void leave(void **fake, const void *stack, size_t n) { __sanitizer_start_switch_fiber(fake, stack, n); }
void leave_to_scheduler(void **fake) { leave(fake, scheduler_stack, scheduler_bytes); }
void arrive_in_fiber(void *fake) { __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_bytes); }
void arrive_in_scheduler(void *fake) { __sanitizer_finish_switch_fiber(fake, nullptr, nullptr); }
void forget_frames(const fiber &f) { __asan_unpoison_memory_region(f.stack(), stack_bytes); }
#else
void leave(void **, const void *, size_t) {}
void leave_to_scheduler(void **) {}
void arrive_in_fiber(void *) {}
void arrive_in_scheduler(void *) {}
void forget_frames(const fiber &) {}
#endif

void suspend(state now)
{
    fiber &f = *pool[running];
    void *fake = nullptr;
    f.now = now;
    leave_to_scheduler(&fake);
    swapcontext(&f.context, &scheduler);
    arrive_in_fiber(fake);
}

void enter()
{
    arrive_in_fiber(nullptr);
    for (;;) { /* the same fiber runs threads of one block after another */
        (*body)();
        suspend(state::done);
    }
}

void start(fiber &f)
{
    forget_frames(f); /* an abandoned kernel may have left frames on the stack */
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack();
    f.context.uc_stack.ss_size = stack_bytes;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
    f.started = true;
}

void resume(unsigned i)
{
    fiber &f = *pool[i];
    void *fake = nullptr;
    if (!f.started) start(f);
    running = i;
    cur = &f.idx;
    leave(&fake, f.stack(), stack_bytes);
    swapcontext(&scheduler, &f.context);
    arrive_in_scheduler(fake);
}

/* ---- collective operations of a warp, and barriers ---- */

bool same_place(const fiber &a, const fiber &b)
{
    return a.at.line == b.at.line && strcmp(a.at.file, b.at.file) == 0 && strcmp(a.at.what, b.at.what) == 0;
}

bool joins(const fiber &other, const fiber &f)
{
    return other.now == state::at_meeting && other.mask == f.mask && same_place(other, f);
}

/* The first lane that f waits for; NULL if all lanes of its mask have arrived. */
const fiber *missing_lane(unsigned base, const fiber &f)
{
    for (unsigned l = 0; l < warp_lanes; l++)
        if (f.mask >> l & 1 && !joins(*pool[base + l], f)) return pool[base + l].get();
    return nullptr;
}

void answer(unsigned base, unsigned mask)
{
    uint64_t votes = 0;
    for (unsigned l = 0; l < warp_lanes; l++)
        if (mask >> l & 1 && pool[base + l]->value) votes |= 1u << l;
    for (unsigned l = 0; l < warp_lanes; l++) {
        if (!(mask >> l & 1)) continue;
        fiber &f = *pool[base + l];
        if (f.kind == collective::shuffle && !(mask >> f.source & 1))
            return fail("%s reads lane %d, which is not in the mask %#x, in %s at %s:%d", name_of(f).s, f.source, mask,
                        f.at.what, f.at.file, f.at.line);
        f.result = f.kind == collective::shuffle ? pool[base + f.source]->value : votes;
        f.now = state::ready;
    }
}

/* Wakes every group of lanes that is complete. */
bool release_meetings(unsigned base, unsigned lanes)
{
    bool any = false;
    for (unsigned l = 0; l < lanes && !error[0]; l++) {
        const fiber &f = *pool[base + l];
        if (f.now != state::at_meeting || missing_lane(base, f)) continue;
        answer(base, f.mask);
        any = true;
    }
    return any;
}

/* Wakes the block if all its threads wait at the same barrier. */
bool release_barrier()
{
    for (unsigned i = 0; i < n_threads; i++)
        if (pool[i]->now != state::at_barrier || !same_place(*pool[i], *pool[0])) return false;
    for (unsigned i = 0; i < n_threads; i++) pool[i]->now = state::ready;
    return true;
}

/* ---- the schedule ---- */

void arrange(std::vector<unsigned> &turn)
{
    std::iota(turn.begin(), turn.end(), 0u);
    if (run_order == order::reverse) std::reverse(turn.begin(), turn.end());
    if (run_order == order::shuffled) std::shuffle(turn.begin(), turn.end(), rng);
}

/* Runs one warp as far as it can without the others. */
void run_warp(unsigned base)
{
    std::vector<unsigned> turn(std::min(warp_lanes, n_threads - base));
    do {
        arrange(turn);
        for (unsigned l : turn)
            if (pool[base + l]->now == state::ready && !error[0]) resume(base + l);
    } while (!error[0] && release_meetings(base, (unsigned)turn.size()));
}

void explain_deadlock()
{
    for (unsigned i = 0; i < n_threads; i++) {
        if (pool[i]->now != state::at_meeting) continue;
        return report_deadlock(*pool[i], *missing_lane(i - i % warp_lanes, *pool[i]));
    }
    for (unsigned i = 0; i < n_threads; i++) {
        if (pool[i]->now != state::at_barrier) continue;
        for (unsigned j = 0; j < n_threads; j++)
            if (pool[j]->now != state::at_barrier || !same_place(*pool[i], *pool[j]))
                return report_deadlock(*pool[i], *pool[j]);
    }
}

void run_block()
{
    std::vector<unsigned> turn((n_threads + warp_lanes - 1) / warp_lanes);
    do {
        arrange(turn);
        for (unsigned w : turn) run_warp(w * warp_lanes);
    } while (!error[0] && release_barrier());
    if (!error[0]) explain_deadlock();
    if (error[0]) /* fibers that still wait inside the kernel are abandoned */
        for (auto &f : pool) f->started = false;
}

size_t shared_allowed(const void *kernel)
{
    const auto limit = shared_limits.find(kernel);
    return limit == shared_limits.end() ? shared_limit_default : std::max(shared_limit_default, limit->second);
}

bool launchable(const geometry &g)
{
    const dim3 grid = g.grid, block = g.block;
    if (grid.x - 1 > 0x7FFFFFFEu || grid.y - 1 > 65534 || grid.z - 1 > 65534)
        fail("%s: a grid of (%u,%u,%u) blocks", g.name, grid.x, grid.y, grid.z);
    if (block.x - 1 > 1023 || block.y - 1 > 1023 || block.z - 1 > 63 || block.x * block.y * block.z > max_threads)
        fail("%s: a block of (%u,%u,%u) threads", g.name, block.x, block.y, block.z);
    if (g.shared_bytes > shared_allowed(g.kernel))
        fail("%s: %zu bytes of dynamic shared memory, %zu are allowed", g.name, g.shared_bytes,
             shared_allowed(g.kernel));
    return !error[0];
}

void place_threads(dim3 grid, dim3 block, unsigned b)
{
    const dim3 at(b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y));
    for (unsigned t = 0; t < n_threads; t++) {
        const dim3 thread(t % block.x, t / block.x % block.y, t / (block.x * block.y));
        pool[t]->idx = {thread, at, block, grid};
        pool[t]->now = state::ready;
    }
}
} // namespace

void set_threads(order o, unsigned seed)
{
    run_order = o;
    rng.seed(seed);
}

void set_order(order o, unsigned seed)
{
    set_threads(o, seed);
    error[0] = 0;
}

const char *last_error() { return error; }

void fail(const char *format, ...)
{
    if (error[0]) return;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, sizeof error, format, arguments);
    va_end(arguments);
}

int lane() { return (int)(running % warp_lanes); }

void set_sink(sink s) { work_sink = s; }
void set_shared_most(size_t bytes) { shared_most = bytes; }
size_t most_shared() { return shared_most; }

void shared_limit(const void *kernel, const char *name, size_t bytes)
{
    if (bytes > shared_most)
        return fail("%s: %zu bytes of shared memory asked for, a block has at most %zu", name, bytes, shared_most);
    shared_limits[kernel] = bytes;
}

void *shared(const void *site, size_t bytes)
{
    auto it = block_shared.find(site);
    if (it == block_shared.end()) {
        block_memory fresh(malloc(bytes), free);
        memset(fresh.get(), 0xff, bytes);
        it = block_shared.emplace(site, std::move(fresh)).first;
        if (site != &shape) shared_used += bytes; /* shared_used starts with the dynamic part */
        const size_t allowed = shared_limits.count(shape->kernel) ? shared_most : shared_limit_default;
        if (shared_used > allowed || shared_used - shape->shared_bytes > shared_limit_default)
            fail("%s: %zu bytes of shared memory, %zu of them dynamic", shape->name, shared_used, shape->shared_bytes);
    }
    return it->second.get();
}

void *dynamic_shared() { return shared(&shape, shape->shared_bytes); }

void barrier(const place &at)
{
    pool[running]->at = at;
    suspend(state::at_barrier);
}

uint64_t meet(collective kind, unsigned mask, uint64_t value, int source, const place &at)
{
    fiber &f = *pool[running];
    const unsigned base = running - running % warp_lanes, lanes = std::min(warp_lanes, n_threads - base);
    f.at = at;
    if (!(mask >> lane() & 1))
        fail("%s is not in its own mask %#x in %s at %s:%d", name_of(f).s, mask, at.what, at.file, at.line);
    if (lanes < warp_lanes && mask >> lanes)
        fail("%s: the mask %#x in %s at %s:%d names lanes of a warp of %u", name_of(f).s, mask, at.what, at.file,
             at.line, lanes);
    f.kind = kind;
    f.mask = mask;
    f.value = value;
    f.source = source;
    suspend(state::at_meeting);
    return f.result;
}

static void run_grid(const geometry &g, const std::function<void()> &fn)
{
    shape = &g;
    body = &fn;
    n_threads = g.block.x * g.block.y * g.block.z;
    while (pool.size() < n_threads) pool.emplace_back(new fiber);
    std::vector<unsigned> turn((size_t)g.grid.x * g.grid.y * g.grid.z);
    arrange(turn);
    for (unsigned b : turn) {
        if (error[0]) return;
        shared_used = g.shared_bytes;
        place_threads(g.grid, g.block, b);
        run_block();
        block_shared.clear();
    }
}

void submit(const geometry &g, cudaStream_t stream, std::function<void()> fn)
{
    if (const char *injected = failure_of(g.name)) fail("%s", injected);
    if (!launchable(g)) return; /* also false after an earlier error */
    auto run = [g, fn = std::move(fn)] { run_grid(g, fn); };
    if (work_sink)
        work_sink(stream, g.name, run);
    else
        run();
}

/* ---- injected failures ---- */

static long calls_made, failing_call;

void fail_at(long n)
{
    calls_made = 0;
    failing_call = n;
}

long calls() { return calls_made; }

const char *failure_of(const char *name)
{
    static char text[200];
    if (++calls_made != failing_call) return nullptr;
    snprintf(text, sizeof text, "emulated failure of call %ld: %s", calls_made, name);
    return text;
}
} // namespace emu
