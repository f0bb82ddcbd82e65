/* The emulated runtime is only useful if it rejects what CUDA rejects and exposes what CUDA leaves undefined: each test
 * makes a mistake, or checks that correct code passes. */
#include "emu/machine.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

/* ---- memory ---- */

Test(emu_rt, memory_is_zeroed_aligned_and_counted)
{
    void *a, *b;
    emu_get_device()->total = 1000;
    OK(rt_alloc(700, &a, &why));
    cr_assert_eq((uintptr_t)a % 256, 0u);
    cr_assert_eq(rt_memory_free(), 300u);
    REFUSED(DDPM_ENOMEM, rt_alloc(301, &b, &why), "301 bytes", "300 are free");
    cr_assert_null(b);
    OK(rt_alloc(300, &b, &why));
    std::vector<char> v(700, 'x');
    OK(rt_download(v.data(), a, 700, nullptr, &why));
    for (char c : v) cr_assert_eq(c, 0);
    cr_assert_eq(emu_live().memory, 2);
    cr_assert_eq(emu_live().bytes, 1000u);
    rt_free(a);
    rt_free(b);
    rt_free(nullptr);
    cr_assert_eq(emu_live_total(), 0);
    cr_assert_eq(rt_memory_free(), 1000u);
    OK(rt_alloc(0, &a, &why));
    cr_assert_null(a);
}

Test(emu_rt, copies_know_their_sides)
{
    machine m;
    int on_host[CELLS] = {1, 2, 3, 4};
    OK(rt_upload(m.cell, on_host, sizeof on_host, m.main, &why));
    cr_assert_eq(m.read(m.main), std::vector<int>({1, 2, 3, 4}));
    OK(rt_copy(m.cell, m.cell + 3, sizeof(int), m.main, &why));
    OK(rt_zero(m.cell + 2, sizeof(int), m.main, &why));
    cr_assert_eq(m.read(m.main), std::vector<int>({4, 2, 0, 4}));
    REFUSED(DDPM_EBACKEND, rt_upload(on_host, on_host, 4, m.main, &why), "rt_upload", "the target",
            "not device memory");
    REFUSED(DDPM_EBACKEND, rt_upload(m.cell, m.cell, 4, m.main, &why), "host memory expected");
    REFUSED(DDPM_EBACKEND, rt_upload(m.cell + 1, on_host, sizeof on_host, m.main, &why), "the target");
    REFUSED(DDPM_EBACKEND, rt_download(on_host, on_host, 4, m.main, &why), "the source");
    REFUSED(DDPM_EBACKEND, rt_download(m.cell, m.cell, 4, m.main, &why), "host memory expected");
    REFUSED(DDPM_EBACKEND, rt_copy(m.cell, on_host, 4, m.main, &why), "the source");
    REFUSED(DDPM_EBACKEND, rt_copy(on_host, m.cell, 4, m.main, &why), "the target");
    REFUSED(DDPM_EBACKEND, rt_zero(on_host, 4, m.main, &why), "the target");
    cr_assert_eq(m.read(m.main), std::vector<int>({4, 2, 0, 4}), "refusals do nothing");
}

Test(emu_rt, the_host_must_not_touch_device_memory)
{
#if defined(__SANITIZE_ADDRESS__)
    machine m;
    cr_assert_not_null(__asan_region_is_poisoned(m.cell, sizeof(int)));
    put(m.main, m.cell, 5); /* but device work may */
    cr_assert_eq(m.read(m.main, 0), 5);
    cr_assert_not_null(__asan_region_is_poisoned(m.cell, sizeof(int)));
    cr_assert_null(__asan_region_is_poisoned(m.host, CELLS * sizeof(int)));
#else
    cr_skip_test("built without AddressSanitizer");
#endif
}

Test(emu_rt, freeing_twice_is_an_error_that_sticks)
{
    machine m;
    void *memory;
    OK(rt_alloc(1, &memory, &why));
    rt_free(memory);
    cr_assert_str_empty(emu_last_error());
    rt_free(memory);
    cr_assert(strstr(emu_last_error(), "rt_free: invalid argument"), "%s", emu_last_error());
    REFUSED(DDPM_EBACKEND, rt_sync(m.main, &why), "rt_sync: rt_free: invalid argument");
    emu_reset();
    OK(rt_sync(m.main, &why));
}

/* ---- the device ---- */

Test(emu_rt, the_device_is_what_the_test_says)
{
    rt_info info;
    OK(rt_open(-1, &info, &why));
    cr_assert_str_eq(info.name, "emulated");
    cr_assert_eq(info.index, 0);
    cr_assert_eq(info.sms, 4);
    cr_assert_eq(info.shared, 227u * 1024);
    cr_assert(info.loops && rt_present());
    REFUSED(DDPM_EDEVICE, rt_open(1, &info, &why), "cuda:1", "no such device");
    emu_get_device()->refusal = "no driver here";
    emu_get_device()->loops = false;
    REFUSED(DDPM_EDEVICE, rt_open(-1, &info, &why), "no driver here");
    cr_assert_not(rt_present());
    emu_reset();
    OK(rt_open(0, &info, &why));
}

/* ---- streams and events ---- */

Test(emu_rt, joined_side_work_is_right_in_every_timing)
{
    for (emu_timing t : timings) {
        machine m;
        emu_set_timing(t);
        put(m.main, m.cell, 1);
        m.fork_side();
        add(m.side, m.cell + 1, m.cell, m.cell); /* 2 */
        put(m.main, m.cell + 2, 5);
        m.join_side();
        add(m.main, m.cell + 3, m.cell + 1, m.cell + 2);
        cr_assert_eq(m.read(m.main), std::vector<int>({1, 2, 5, 7}), "timing %d", t);
    }
}

/* Main does not wait for the side stream before it reads. */
static int without_join(emu_timing t)
{
    machine m;
    emu_set_timing(t);
    m.fork_side();
    put(m.side, m.cell + 1, 2);
    add(m.main, m.cell + 3, m.cell + 1, m.cell);
    const int seen = m.read(m.main, 3);
    cr_assert_eq(m.read(m.side, 1), 2);
    return seen;
}

/* Main does not wait for the side stream before it overwrites a cell that the side stream reads. */
static int overwritten(emu_timing t)
{
    machine m;
    emu_set_timing(t);
    put(m.main, m.cell, 1);
    m.fork_side();
    add(m.side, m.cell + 1, m.cell, m.cell + 2);
    put(m.main, m.cell, 9);
    m.join_side();
    return m.read(m.main, 1);
}

Test(emu_rt, a_missing_join_shows_when_the_side_is_late)
{
    cr_assert_eq(without_join(EMU_AT_ONCE), 2);
    cr_assert_eq(without_join(EMU_SIDE_LATE), 0);
    cr_assert_eq(without_join(EMU_ALL_LATE), 0);
    cr_assert_eq(overwritten(EMU_AT_ONCE), 1);
    cr_assert_eq(overwritten(EMU_SIDE_LATE), 9);
    cr_assert_eq(overwritten(EMU_ALL_LATE), 9);
}

Test(emu_rt, a_wait_goes_as_far_as_the_event_and_no_further)
{
    for (emu_timing t : {EMU_SIDE_LATE, EMU_ALL_LATE}) {
        machine m;
        emu_set_timing(t);
        m.fork_side();
        put(m.side, m.cell, 1);
        OK(rt_event_record(m.join, m.side, &why));
        put(m.side, m.cell, 2);
        OK(rt_stream_wait(m.main, m.join, &why));
        cr_assert_eq(m.read(m.main, 0), 1);
        OK(rt_event_sync(m.join, &why));
        cr_assert_eq(m.read(m.main, 0), 1);
        OK(rt_event_record(m.join, m.side, &why)); /* the event now has another position */
        OK(rt_event_sync(m.join, &why));
        cr_assert_eq(m.read(m.main, 0), 2);
    }
}

Test(emu_rt, destroying_a_stream_or_freeing_memory_finishes_the_work)
{
    machine m;
    void *other;
    emu_set_timing(EMU_ALL_LATE);
    OK(rt_stream_create(false, &other, &why));
    put(other, m.cell, 3);
    cr_assert_eq(m.read(m.main, 0), 0);
    rt_stream_destroy(other);
    cr_assert_eq(m.read(m.main, 0), 3);
    put(m.side, m.cell, 4);
    OK(rt_alloc(4, &other, &why));
    cr_assert_eq(m.read(m.main, 0), 3);
    rt_free(other);
    cr_assert_eq(m.read(m.main, 0), 4);
}

Test(emu_rt, host_memory_is_read_when_the_stream_gets_there)
{
    for (emu_timing t : timings) {
        machine m;
        emu_set_timing(t);
        m.fork_side();
        m.join_side(); /* this does not make the main stream a side stream */
        m.host[0] = 1;
        OK(rt_upload(m.cell, m.host, sizeof(int), m.main, &why));
        m.host[0] = 2; /* too early: the upload may not have run yet */
        cr_assert_eq(m.read(m.main, 0), t == EMU_ALL_LATE ? 2 : 1);
    }
}

Test(emu_rt, an_event_that_was_never_recorded_holds_nobody_up)
{
    machine m;
    OK(rt_stream_wait(m.main, m.join, &why));
    OK(rt_event_sync(m.join, &why));
}

Test(emu_rt, events_tell_the_emulated_time)
{
    machine m;
    void *from, *to;
    float ms = -1;
    OK(rt_event_create(true, &from, &why));
    OK(rt_event_create(true, &to, &why));
    REFUSED(DDPM_EBACKEND, rt_event_ms(from, to, &ms, &why), "without a time");
    emu_set_timing(EMU_ALL_LATE);
    OK(rt_event_record(from, m.main, &why));
    put(m.main, m.cell, 1);
    put(m.main, m.cell, 2);
    OK(rt_event_record(to, m.main, &why));
    OK(rt_event_ms(from, to, &ms, &why));
    cr_assert_float_eq(ms, 0.002, 1e-7);
    OK(rt_event_record(m.fork, m.main, &why));
    REFUSED(DDPM_EBACKEND, rt_event_ms(from, m.fork, &ms, &why), "without a time");
    rt_event_destroy(from);
    rt_event_destroy(to);
    REFUSED(DDPM_EBACKEND, rt_event_record(to, m.main, &why), "no such event");
    REFUSED(DDPM_EBACKEND, rt_sync(to, &why), "no such stream");
}

/* ---- injected failures ---- */

static ddpm_status everything(err *e)
{
    void *stream = nullptr, *event = nullptr, *memory = nullptr, *pinned = nullptr;
    rt_graph *g = nullptr;
    rt_info info;
    float ms;
    bool recording = false;
    ddpm_status st = DDPM_OK;
    TRY_GOTO(rt_open(-1, &info, e));
    TRY_GOTO(rt_stream_create(true, &stream, e));
    TRY_GOTO(rt_event_create(true, &event, e));
    TRY_GOTO(rt_alloc(64, &memory, e));
    TRY_GOTO(rt_alloc_host(64, &pinned, e));
    TRY_GOTO(rt_event_record(event, stream, e));
    TRY_GOTO(rt_upload(memory, pinned, 64, stream, e));
    LAUNCH(set, 1, 1, 0, stream, static_cast<int *>(memory), 1);
    TRY_GOTO(rt_launched(launch_status(), e));
    TRY_GOTO(rt_stream_wait(stream, event, e));
    TRY_GOTO(rt_download(pinned, memory, 64, stream, e));
    TRY_GOTO(rt_event_sync(event, e));
    TRY_GOTO(rt_event_ms(event, event, &ms, e));
    TRY_GOTO(rt_graph_begin(stream, e));
    recording = true;
    TRY_GOTO(rt_zero(memory, 64, stream, e));
    TRY_GOTO(rt_copy(memory, static_cast<char *>(memory) + 32, 32, stream, e));
    recording = false;
    TRY_GOTO(rt_graph_end(stream, &g, e));
    TRY_GOTO(rt_graph_launch(g, stream, e));
    TRY_GOTO(rt_sync(stream, e));
done:
    if (recording && rt_graph_end(stream, nullptr, nullptr) != DDPM_OK) cr_assert_fail("the end of a failed recording");
    rt_graph_destroy(g);
    rt_free(memory);
    rt_free_host(pinned);
    rt_event_destroy(event);
    rt_stream_destroy(stream);
    return st;
}

Test(emu_rt, every_call_fails_on_purpose)
{
    static const char *const names[] = {"rt_open",         "rt_stream_create", "rt_event_create", "rt_alloc",
                                        "rt_alloc_host",   "rt_event_record",  "rt_upload",       "set",
                                        "rt_stream_wait",  "rt_download",      "rt_event_sync",   "rt_event_ms",
                                        "rt_graph_begin",  "rt_zero",          "rt_copy",         "rt_graph_end",
                                        "rt_graph_launch", "rt_sync"};
    enum { CALLS = sizeof names / sizeof *names };
    for (int n = 1; n <= CALLS; n++) {
        char text[80];
        emu_reset();
        emu_fail_at(n);
        snprintf(text, sizeof text, "emulated failure of call %d: %s", n, names[n - 1]);
        const ddpm_status status = n == 1 ? DDPM_EDEVICE : n == 4 || n == 5 ? DDPM_ENOMEM : DDPM_EBACKEND;
        REFUSED(status, everything(&why), text);
        cr_assert_eq(emu_live_total(), 0, "call %d", n);
    }
    emu_reset();
    OK(everything(&why));
    cr_assert_eq(emu_calls(), CALLS);
}
