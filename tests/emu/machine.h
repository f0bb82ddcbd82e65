/* machine.h - shared by the tests of the emulated runtime: a device with an array of four ints and two streams. */
#ifndef DDPM_TEST_MACHINE_H
#define DDPM_TEST_MACHINE_H
#include "emu/emu_control.h"
#include "kernels/emulated.h"
extern "C" {
#include "backend/cuda/lib/cuda_rt.h"
}

static err why; /* of the last call that failed */

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        const ddpm_status ok_ = (call);                                                                                \
        cr_assert_eq(ok_, DDPM_OK, "%s: %s", #call, why.text);                                                         \
    } while (0)
#define REFUSED(status_, call, ...)                                                                                    \
    do {                                                                                                               \
        why = {};                                                                                                      \
        cr_assert_eq(call, status_, "%s", #call);                                                                      \
        for (const char *part_ : {__VA_ARGS__})                                                                        \
            cr_assert(strstr(why.text, part_), "no \"%s\" in \"%s\"", part_, why.text);                                \
    } while (0)

enum { CELLS = 4 };

struct machine {
    void *main = nullptr, *side = nullptr, *fork = nullptr, *join = nullptr;
    int *cell = nullptr, *host = nullptr; /* [CELLS] on the device; pinned */

    machine()
    {
        void *memory, *pinned;
        OK(rt_stream_create(true, &main, &why));
        OK(rt_stream_create(false, &side, &why));
        OK(rt_event_create(false, &fork, &why));
        OK(rt_event_create(false, &join, &why));
        OK(rt_alloc(CELLS * sizeof(int), &memory, &why));
        OK(rt_alloc_host(CELLS * sizeof(int), &pinned, &why));
        cell = static_cast<int *>(memory), host = static_cast<int *>(pinned);
        for (const char *kernel : {"set", "sum", "times_and", "half_a_barrier"}) emu_load_kernel(kernel);
    }
    ~machine()
    {
        rt_stream_destroy(main);
        rt_stream_destroy(side);
        rt_event_destroy(fork);
        rt_event_destroy(join);
        rt_free(cell);
        rt_free_host(host);
    }
    /* The contents of the cells after all work on `stream` so far. */
    std::vector<int> read(void *stream)
    {
        std::vector<int> v(CELLS);
        OK(rt_download(v.data(), cell, CELLS * sizeof(int), stream, &why));
        OK(rt_sync(stream, &why));
        return v;
    }
    int read(void *stream, int i) { return read(stream)[(size_t)i]; }
    void fork_side()
    {
        OK(rt_event_record(fork, main, &why));
        OK(rt_stream_wait(side, fork, &why));
    }
    void join_side()
    {
        OK(rt_event_record(join, side, &why));
        OK(rt_stream_wait(main, join, &why));
    }
};

static void set(int *to, int value) { *to = value; }
static void sum(int *to, const int *a, const int *b) { *to = *a + *b; }

inline void put(void *stream, int *to, int value)
{
    LAUNCH(set, 1, 1, 0, stream, to, value);
    OK(rt_launched(launch_status(), &why));
}

inline void add(void *stream, int *to, const int *a, const int *b)
{
    LAUNCH(sum, 1, 1, 0, stream, to, a, b);
    OK(rt_launched(launch_status(), &why));
}

static const emu_timing timings[] = {EMU_AT_ONCE, EMU_SIDE_EARLY, EMU_SIDE_LATE, EMU_ALL_LATE};

#endif
