/* Captures of the emulated runtime: which calls are allowed, and the effect of a missing dependency. */
#include "emu/machine.h"

static void times_and(int *to, int times, const int *more) { *to = *to * times + *more; }

/* ---- graphs ---- */

static rt_graph *end_graph(machine &m)
{
    rt_graph *g;
    OK(rt_graph_end(m.main, &g, &why));
    return g;
}

Test(emu_graph, a_recording_runs_when_it_is_launched_and_not_before)
{
    machine m;
    OK(rt_graph_begin(m.main, &why));
    int times = 3;
    LAUNCH(times_and, 1, 1, 0, m.main, m.cell, times, m.cell + 1);
    times = 1000; /* the graph keeps the arguments of the capture */
    OK(rt_copy(m.cell + 2, m.cell, sizeof(int), m.main, &why));
    rt_graph *g = end_graph(m);
    put(m.main, m.cell + 1, 1);
    cr_assert_eq(m.read(m.main), std::vector<int>({0, 1, 0, 0}));
    OK(rt_graph_launch(g, m.main, &why));
    OK(rt_graph_launch(g, m.main, &why));
    cr_assert_eq(m.read(m.main), std::vector<int>({4, 1, 4, 0}));
    cr_assert_eq(emu_live().graphs, 1);
    rt_graph_destroy(g);
    rt_graph_destroy(nullptr);
    cr_assert_eq(emu_live().graphs, 0);
}

Test(emu_graph, pinned_memory_may_be_recorded_and_other_memory_not)
{
    machine m;
    int pageable = 7;
    OK(rt_graph_begin(m.main, &why));
    OK(rt_upload(m.cell, m.host, sizeof(int), m.main, &why));
    rt_graph *g = end_graph(m);
    for (int value : {7, 8}) {
        m.host[0] = value;
        OK(rt_graph_launch(g, m.main, &why));
        cr_assert_eq(m.read(m.main, 0), value);
    }
    rt_graph_destroy(g);
    OK(rt_graph_begin(m.main, &why));
    REFUSED(DDPM_EBACKEND, rt_upload(m.cell, &pageable, sizeof(int), m.main, &why), "rt_upload",
            "operation not permitted when stream is capturing");
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "previous error during capture", "rt_upload");
    cr_assert_null(g);
    OK(rt_upload(m.cell, &pageable, sizeof(int), m.main, &why)); /* the stream is usable again */
}

/* A call that is forbidden during a capture: it fails, and so does the end of the capture. */
template <class F> static void not_while_recording(F forbidden, const char *call, const char *reason)
{
    machine m;
    rt_graph *g;
    OK(rt_graph_begin(m.main, &why));
    put(m.main, m.cell, 1);
    REFUSED(DDPM_EBACKEND, forbidden(m), call, reason);
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "previous error during capture", call);
    cr_assert_null(g);
    cr_assert_eq(m.read(m.main, 0), 0);
    put(m.main, m.cell, 2);
    cr_assert_eq(m.read(m.main, 0), 2);
}

Test(emu_graph, what_cuda_forbids_while_capturing_fails)
{
    const char *const forbidden = "operation not permitted when stream is capturing";
    void *p;
    not_while_recording([&](machine &m) { return rt_sync(m.main, &why); }, "rt_sync", forbidden);
    not_while_recording([&](machine &) { return rt_alloc(4, &p, &why); }, "rt_alloc", forbidden);
    not_while_recording([&](machine &) { return rt_alloc_host(4, &p, &why); }, "rt_alloc_host", forbidden);
    not_while_recording(
        [&](machine &m) {
            int there;
            return rt_download(&there, m.cell, 4, m.main, &why);
        },
        "rt_download", forbidden);
    not_while_recording(
        [&](machine &m) {
            OK(rt_event_record(m.fork, m.side, &why));
            return rt_stream_wait(m.main, m.fork, &why);
        },
        "rt_stream_wait", "uncaptured work");
    not_while_recording([&](machine &m) { return rt_graph_begin(m.main, &why); }, "rt_graph_begin", "already");
    not_while_recording([&](machine &m) { return rt_zero(m.cell, 4, nullptr, &why); }, "rt_zero", "legacy stream");
    cr_assert_eq(emu_live_total(), 0);
}

Test(emu_graph, freeing_memory_spoils_a_recording)
{
    machine m;
    void *p;
    rt_graph *g;
    OK(rt_alloc(4, &p, &why));
    OK(rt_graph_begin(m.main, &why));
    rt_free(p);
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "rt_free");
}

Test(emu_graph, other_streams_work_on_while_one_records)
{
    machine m;
    OK(rt_graph_begin(m.main, &why));
    put(m.side, m.cell, 1);
    cr_assert_eq(m.read(m.side, 0), 1);
    put(m.main, m.cell, 2);
    rt_graph *g = end_graph(m);
    cr_assert_eq(m.read(m.side, 0), 1);
    rt_graph_destroy(g);
}

Test(emu_graph, an_event_of_a_recording_is_no_event_of_a_stream)
{
    machine m;
    OK(rt_graph_begin(m.main, &why));
    OK(rt_event_record(m.fork, m.main, &why));
    REFUSED(DDPM_EBACKEND, rt_event_sync(m.fork, &why), "last recorded in a capturing stream");
    rt_graph_destroy(end_graph(m));
    REFUSED(DDPM_EBACKEND, rt_stream_wait(m.side, m.fork, &why), "last recorded in a capturing stream");
    OK(rt_event_record(m.fork, m.main, &why));
    OK(rt_stream_wait(m.side, m.fork, &why));
}

Test(emu_graph, two_recordings_do_not_merge)
{
    machine m;
    rt_graph *g;
    OK(rt_graph_begin(m.main, &why));
    OK(rt_graph_begin(m.side, &why));
    OK(rt_event_record(m.fork, m.main, &why));
    REFUSED(DDPM_EBACKEND, rt_stream_wait(m.side, m.fork, &why), "merge");
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.side, &g, &why), "merge");
    rt_graph_destroy(end_graph(m));
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "not capturing");
}

Test(emu_graph, side_work_that_nobody_joins_cannot_be_recorded)
{
    machine m;
    rt_graph *g;
    OK(rt_graph_begin(m.main, &why));
    m.fork_side();
    put(m.side, m.cell, 1);
    m.join_side();
    put(m.side, m.cell, 2); /* after the join */
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.side, &g, &why), "another stream");
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "unjoined work", "set");
    cr_assert_null(g);
    put(m.side, m.cell, 3); /* the side stream is no longer captured */
    cr_assert_eq(m.read(m.side, 0), 3);
}

Test(emu_graph, an_abandoned_recording_leaves_the_streams_usable)
{
    machine m;
    OK(rt_graph_begin(m.main, &why));
    put(m.main, m.cell + 1, 1);
    put(m.main, m.cell + 2, 1);
    m.fork_side();
    put(m.side, m.cell, 1);
    OK(rt_graph_end(m.main, nullptr, &why));
    cr_assert_eq(m.read(m.main), std::vector<int>(CELLS));
    put(m.side, m.cell, 2);
    cr_assert_eq(m.read(m.side, 0), 2);
    cr_assert_eq(emu_live().graphs, 0);
    OK(rt_graph_begin(m.side, &why)); /* the next capture is not affected */
    put(m.side, m.cell, 3);
    rt_graph *g;
    OK(rt_graph_end(m.side, &g, &why));
    emu_set_timing(EMU_SIDE_LATE);
    OK(rt_graph_launch(g, m.side, &why));
    cr_assert_eq(m.read(m.side, 0), 3);
    rt_graph_destroy(g);
}

Test(emu_graph, recorded_side_work_is_right_in_every_timing)
{
    machine m;
    OK(rt_graph_begin(m.main, &why));
    put(m.main, m.cell, 1);
    m.fork_side();
    add(m.side, m.cell + 1, m.cell, m.cell);
    put(m.main, m.cell + 2, 5);
    m.join_side();
    add(m.main, m.cell + 3, m.cell + 1, m.cell + 2);
    rt_graph *g = end_graph(m);
    for (emu_timing t : timings) {
        emu_set_timing(t);
        OK(rt_zero(m.cell, CELLS * sizeof(int), m.main, &why));
        OK(rt_graph_launch(g, m.main, &why));
        cr_assert_eq(m.read(m.main), std::vector<int>({1, 2, 5, 7}), "timing %d", t);
    }
    rt_graph_destroy(g);
}

/* Two reads of cell 0, which main sets to 1, by the side stream, added up; two reads of cell 3, which the side stream
 * sets to 2, by main, added up.  The fork is before or after main's write, the join before or after main's reads. */
struct seen {
    int by_side, by_main;
};

static seen in_recording(emu_timing t, bool forked_late, bool joined_early)
{
    machine m;
    emu_set_timing(t);
    OK(rt_graph_begin(m.main, &why));
    if (!forked_late) m.fork_side();
    put(m.main, m.cell, 1);
    if (forked_late) m.fork_side();
    add(m.side, m.cell + 1, m.cell, m.cell);
    put(m.side, m.cell + 3, 2);
    if (joined_early) m.join_side();
    add(m.main, m.cell + 2, m.cell + 3, m.cell + 3);
    if (!joined_early) m.join_side();
    rt_graph *g = end_graph(m);
    OK(rt_graph_launch(g, m.main, &why));
    const std::vector<int> v = m.read(m.main);
    rt_graph_destroy(g);
    return {v[1], v[2]};
}

Test(emu_graph, missing_dependencies_of_a_recording_show_early_or_late)
{
    for (emu_timing t : timings) { /* with both dependencies the result is always right */
        const seen right = in_recording(t, true, true);
        cr_assert(right.by_side == 2 && right.by_main == 4, "timing %d", t);
    }
    cr_assert_eq(in_recording(EMU_AT_ONCE, false, true).by_side, 2);
    cr_assert_eq(in_recording(EMU_SIDE_EARLY, false, true).by_side, 0);
    cr_assert_eq(in_recording(EMU_AT_ONCE, true, false).by_main, 4);
    cr_assert_eq(in_recording(EMU_SIDE_LATE, true, false).by_main, 0);
    cr_assert_eq(in_recording(EMU_ALL_LATE, true, false).by_main, 0);
}

/* Two pieces of side work with a join each: in the late timing each runs just before its own join. */
Test(emu_graph, late_side_work_waits_for_its_own_join)
{
    machine m;
    void *second;
    OK(rt_event_create(false, &second, &why));
    emu_set_timing(EMU_SIDE_LATE);
    OK(rt_graph_begin(m.main, &why));
    m.fork_side();
    put(m.side, m.cell, 1);
    OK(rt_event_record(m.join, m.side, &why));
    put(m.side, m.cell, 2);
    OK(rt_event_record(second, m.side, &why));
    OK(rt_stream_wait(m.main, m.join, &why));
    add(m.main, m.cell + 1, m.cell, m.cell + 3);
    OK(rt_stream_wait(m.main, second, &why));
    add(m.main, m.cell + 2, m.cell, m.cell + 3);
    rt_graph *g = end_graph(m);
    OK(rt_graph_launch(g, m.main, &why));
    cr_assert_eq(m.read(m.main), std::vector<int>({2, 1, 2, 0}));
    rt_graph_destroy(g);
    rt_event_destroy(second);
}

static void half_a_barrier()
{
    if (threadIdx.x) __syncthreads();
}

Test(emu_graph, a_kernel_that_fails_in_a_replay_shows_at_the_sync)
{
    machine m;
    OK(rt_graph_begin(m.main, &why));
    LAUNCH(half_a_barrier, 1, 2, 0, m.main);
    rt_graph *g = end_graph(m);
    emu_set_timing(EMU_ALL_LATE);
    OK(rt_graph_launch(g, m.main, &why));
    REFUSED(DDPM_EBACKEND, rt_sync(m.main, &why), "__syncthreads");
    rt_graph_destroy(g);
}

Test(emu_graph, a_call_that_failed_cannot_be_ignored)
{
    machine m;
    rt_graph *g;
    OK(rt_graph_begin(m.main, &why));
    emu_fail_at(1);
    REFUSED(DDPM_EBACKEND, rt_zero(m.cell, sizeof(int), m.main, &why), "emulated failure of call 1: rt_zero");
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "previous error during capture");
}

/* ---- loops ---- */

Test(emu_graph, a_loop_runs_as_often_as_it_is_told)
{
    for (emu_timing t : timings) {
        machine m;
        emu_set_timing(t);
        int *count = m.cell + 3;
        put(m.main, m.cell + 1, 1);
        OK(rt_loop_begin(m.main, count, &why));
        LAUNCH(times_and, 1, 1, 0, m.main, m.cell, 2, m.cell + 1);
        rt_graph *g = end_graph(m);
        for (int turns : {1, 3, 2}) {
            OK(rt_zero(m.cell, sizeof(int), m.main, &why));
            put(m.main, count, turns);
            OK(rt_graph_launch(g, m.main, &why));
            cr_assert_eq(m.read(m.main), std::vector<int>({(1 << turns) - 1, 1, 0, 0}));
        }
        rt_graph_destroy(g);
    }
}

Test(emu_graph, loops_can_be_misused)
{
    machine m;
    int on_host = 1;
    REFUSED(DDPM_EBACKEND, rt_loop_begin(m.main, &on_host, &why), "not device memory");
    OK(rt_loop_begin(m.main, m.cell, &why));
    rt_graph *g = end_graph(m);
    OK(rt_graph_launch(g, m.main, &why)); /* 0 iterations */
    REFUSED(DDPM_EBACKEND, rt_sync(m.main, &why), "a loop was launched with 0 turns to go");
    rt_graph_destroy(g);
    emu_reset();
    emu_get_device()->loops = false;
    REFUSED(DDPM_EBACKEND, rt_loop_begin(m.main, m.cell, &why), "no WHILE nodes");
}

static void never_launched(int *to) { *to = 1; }

Test(emu_graph, the_first_launch_of_a_kernel_is_refused_in_a_capture)
{
    machine m;
    rt_graph *g;
    OK(rt_graph_begin(m.main, &why));
    LAUNCH(never_launched, 1, 1, 0, m.main, m.cell);
    REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "never_launched: its first launch is in a capture");
}

Test(emu_graph, host_copies_are_refused_in_a_loop)
{
    for (int down = 0; down < 2; down++) {
        machine m;
        rt_graph *g;
        OK(rt_loop_begin(m.main, m.cell, &why));
        REFUSED(DDPM_EBACKEND,
                down ? rt_download(m.host, m.cell, 4, m.main, &why) : rt_upload(m.cell, m.host, 4, m.main, &why),
                "operation not permitted");
        REFUSED(DDPM_EBACKEND, rt_graph_end(m.main, &g, &why), "previous error during capture");
        OK(rt_graph_begin(m.main, &why)); /* in a graph without a loop pinned memory is allowed */
        OK(rt_upload(m.cell, m.host, 4, m.main, &why));
        OK(rt_graph_end(m.main, &g, &why));
        rt_graph_destroy(g);
    }
}

static void add_run(void *to, const char *name, int times)
{
    *static_cast<std::string *>(to) += std::string(name) + " " + std::to_string(times) + ", ";
}

Test(emu_graph, counted_work_is_not_done)
{
    machine m;
    std::string runs;
    OK(rt_graph_begin(m.main, &why));
    put(m.main, m.cell, 1);
    OK(rt_copy(m.cell + 2, m.cell, sizeof(int), m.main, &why));
    rt_graph *g = end_graph(m);
    emu_count_only(true);
    put(m.main, m.cell, 2);
    for (int i = 0; i < 2; i++) OK(rt_graph_launch(g, m.main, &why));
    OK(rt_sync(m.main, &why));
    emu_counted(add_run, &runs);
    cr_expect_str_eq(runs.c_str(), "rt_copy 2, set 3, ");
    emu_count_only(false);
    cr_expect_eq(m.read(m.main), std::vector<int>({0, 0, 0, 0}));
    rt_graph_destroy(g);
}
