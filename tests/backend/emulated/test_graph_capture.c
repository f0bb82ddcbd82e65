/* Lists of steps on the emulated device, captured as graphs: when a list is captured, alone and in a loop, which
 * changes make a capture out of date, and the state after a failure. */
#include "backend/emulated/step_list.h"

/* Calls of the device in a run of a list of two steps. */
enum { STEP_CALLS = 2, REPLAY_CALLS = 1 };
/* Wait for a staging buffer that was in use before, upload the number of iterations, record an event, launch. */
enum { LOOP_REPLAY_CALLS = 4 };

static void use_staging_buffers(const list *l)
{
    for (int i = 0; i < CUDA_STAGINGS; i++) put(l, STEPS, 0);
}

Test(graph_capture, a_list_is_captured_in_its_second_run_and_replayed_ever_after)
{
    list l;
    open_list(&l, 0);
    use_staging_buffers(&l);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    cr_expect_eq(calls_of(&l, 1), STEP_CALLS);
    cr_expect_eq(emu_live().graphs, 0);
    cr_expect_gt(calls_of(&l, 1), STEP_CALLS);
    cr_expect_eq(emu_live().graphs, 1);
    for (int i = 0; i < 2; i++) cr_expect_eq(calls_of(&l, 1), REPLAY_CALLS);
    cr_expect_gt(calls_of(&l, 4), LOOP_REPLAY_CALLS); /* captures the loop */
    cr_expect_eq(emu_live().graphs, 2);
    for (int times = 2; times < 8; times++) cr_expect_eq(calls_of(&l, times), LOOP_REPLAY_CALLS);
    cr_expect_eq(calls_of(&l, 1), REPLAY_CALLS);
    cr_expect_eq(emu_live().graphs, 2);
    l.be->fn->unprepare(l.be, l.steps[1]);
    cr_expect_eq(emu_live().graphs, 0);
    cr_expect_eq(calls_of(&l, 1), STEP_CALLS);
    close_list(&l);
}

Test(graph_capture, without_graphs_every_step_is_launched_every_time)
{
    list l;
    open_list(&l, CUDA_OPT_GRAPH);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    for (int i = 0; i < 3; i++) cr_expect_eq(calls_of(&l, 3), 3 * STEP_CALLS);
    cr_expect_eq(emu_live().graphs, 0);
    close_list(&l);
}

Test(graph_capture, without_loops_every_iteration_is_replayed)
{
    list l;
    open_list(&l, CUDA_OPT_LOOP);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    (void)calls_of(&l, 5);
    cr_expect_eq(calls_of(&l, 5), 5 * REPLAY_CALLS);
    close_list(&l);
}

Test(graph_capture, a_single_step_is_not_captured)
{
    list l;
    open_list(&l, 0);
    append(&l, 0, 1, 2);
    for (int i = 0; i < 3; i++) cr_expect_eq(calls_of(&l, 2), 2);
    cr_expect_eq(emu_live().graphs, 0);
    close_list(&l);
}

Test(graph_capture, a_list_that_grew_is_another_list)
{
    list l;
    open_list(&l, 0);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    for (int i = 0; i < 2; i++) OK(run_list(&l, 1));
    append(&l, 2, 3, 2);
    put(&l, 0, 1);
    for (int i = 0; i < 2; i++) OK(run_list(&l, 1));
    cr_expect_eq(get(&l, 3), 15);
    cr_expect_eq(emu_live().graphs, 2);
    step **other = l.steps + 1; /* another list of as many steps */
    put(&l, 1, 0), put(&l, 2, 0);
    for (int i = 0; i < 2; i++) OK(l.be->fn->run(l.be, other, 2, 1, &why));
    cr_expect_eq(get(&l, 3), 3);
    cr_expect_eq(emu_live().graphs, 3);
    close_list(&l);
}

/* ---- a capture that is out of date ---- */

enum { INPUT, MIDDLE, OUTPUT, OTHER_INPUT, OTHER_OUTPUT, SCRATCH, OTHER_SCRATCH, LOW, OTHER_LOW }; /* rooms */
enum { LOOP = 5 };                                                                                 /* iterations */
static const float input = 1, other_input = 5;

static float affine(float x) { return 2 * x + 1; }

/* A captured list of two steps: OUTPUT = affine(affine(INPUT)), through MIDDLE.  The first step has scratch memory,
 * the input of the second has a bf16 copy. */
static void capture_two_steps(list *l, tensor *scratch)
{
    open_list(l, 0);
    append(l, INPUT, MIDDLE, 2), append(l, MIDDLE, OUTPUT, 2);
    *scratch = (tensor){.dtype = DTYPE_F32, .n = 1, .h = 1, .w = 1, .c = N, .data = room(l, SCRATCH)};
    l->step[0].scratch = scratch;
    l->in[1].low = room(l, LOW);
    put(l, INPUT, input), put(l, OTHER_INPUT, other_input);
    for (int i = 0; i < 2; i++) OK(run_list(l, 1));
    cr_assert_eq(get(l, OUTPUT), affine(affine(input)));
    cr_assert_eq(calls_of(l, 1), REPLAY_CALLS);
}

/* The next run captures the list again and the one after it replays the new capture. */
static void expect_captured_again(list *l)
{
    cr_expect_gt(calls_of(l, 1), STEP_CALLS);
    cr_expect_eq(calls_of(l, 1), REPLAY_CALLS);
    cr_expect_eq(emu_live().graphs, 1);
}

Test(graph_capture, a_list_whose_input_moved_is_captured_again)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    l.in[0].data = room(&l, OTHER_INPUT);
    expect_captured_again(&l);
    cr_expect_eq(get(&l, OUTPUT), affine(affine(other_input)));
    close_list(&l);
}

Test(graph_capture, a_list_whose_output_moved_is_captured_again)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    put(&l, OUTPUT, 0);
    l.out[1].data = room(&l, OTHER_OUTPUT);
    expect_captured_again(&l);
    cr_expect_eq(get(&l, OTHER_OUTPUT), affine(affine(input)));
    cr_expect_eq(get(&l, OUTPUT), 0);
    close_list(&l);
}

Test(graph_capture, a_list_whose_scratch_memory_moved_is_captured_again)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    scratch.data = room(&l, OTHER_SCRATCH);
    expect_captured_again(&l);
    close_list(&l);
}

Test(graph_capture, a_list_of_which_a_bf16_copy_moved_is_captured_again)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    l.in[1].low = room(&l, OTHER_LOW);
    expect_captured_again(&l);
    close_list(&l);
}

/* The list uses the same memory as before, with the tensors' places exchanged. */
Test(graph_capture, a_list_whose_tensors_changed_places_is_captured_again)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    l.out[0].data = l.in[1].data = room(&l, OUTPUT);
    l.out[1].data = room(&l, MIDDLE);
    expect_captured_again(&l);
    cr_expect_eq(get(&l, OUTPUT), affine(input));
    cr_expect_eq(get(&l, MIDDLE), affine(affine(input)));
    l.in[0].data = room(&l, MIDDLE);
    l.out[1].data = room(&l, INPUT);
    expect_captured_again(&l);
    cr_expect_eq(get(&l, INPUT), affine(affine(affine(affine(input)))));
    close_list(&l);
}

/* The new operands are at positions that the op does not use. */
Test(graph_capture, a_list_with_operands_in_other_positions_is_captured_again)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    l.step[1].in[STEP_IN - 1] = &l.in[1];
    expect_captured_again(&l);
    l.step[1].in[1] = &l.in[1], l.step[1].in[STEP_IN - 1] = NULL;
    expect_captured_again(&l);
    l.step[1].out[STEP_OUT - 1] = &l.out[1];
    expect_captured_again(&l);
    close_list(&l);
}

Test(graph_capture, a_loop_whose_output_moved_is_captured_again)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    use_staging_buffers(&l);
    (void)calls_of(&l, LOOP);
    cr_expect_eq(calls_of(&l, LOOP), LOOP_REPLAY_CALLS);
    l.out[1].data = room(&l, OTHER_OUTPUT);
    cr_expect_gt(calls_of(&l, LOOP), LOOP);
    cr_expect_eq(get(&l, OTHER_OUTPUT), affine(affine(input)));
    cr_expect_eq(emu_live().graphs, 2);
    close_list(&l);
}

Test(graph_capture, a_capture_that_fails_leaves_neither_the_old_graph_nor_a_new_one)
{
    list l;
    tensor scratch;
    capture_two_steps(&l, &scratch);
    OK(run_list(&l, LOOP));
    cr_expect_eq(emu_live().graphs, 2);
    l.out[1].data = room(&l, OTHER_OUTPUT);
    emu_fail_at(1);
    cr_expect_eq(run_list(&l, 1), DDPM_EBACKEND);
    cr_expect_eq(emu_live().graphs, 1, "the loop is still there");
    close_list(&l);
}

/* ---- loops ---- */

Test(graph_capture, a_loop_runs_as_many_iterations_as_it_is_given)
{
    for (int t = EMU_AT_ONCE; t <= EMU_ALL_LATE; t++) {
        list l;
        open_list(&l, 0);
        emu_set_timing((emu_timing)t);
        append(&l, 0, 1, 1), append(&l, 1, 0, 1); /* each iteration adds 2 */
        float sum = 0;
        for (int times = 1; times < 7; times++) {
            for (int again = 0; again < 2; again++) { /* two runs without a wait in between */
                OK(run_list(&l, times));
                sum += 2.0f * (float)times;
            }
        }
        cr_expect_eq(get(&l, 0), sum, "timing %d: %g, not %g", t, (double)get(&l, 0), (double)sum);
        close_list(&l);
    }
}

/* The host waits only where a staging buffer is reused whose number has not been uploaded yet. */
Test(graph_capture, loops_are_launched_without_waiting_for_the_device)
{
    list l;
    open_list(&l, 0);
    append(&l, 0, 1, 1), append(&l, 1, 0, 1); /* each iteration adds 2 */
    OK(run_list(&l, 3));
    cr_expect_eq(get(&l, 0), 6);
    emu_set_timing(EMU_ALL_LATE);
    for (int times = 2; times < 2 + CUDA_STAGINGS; times++) OK(run_list(&l, times));
    cr_expect_eq(emu_waits(), 0);
    OK(run_list(&l, 2));
    cr_expect_eq(emu_waits(), 1);
    cr_expect_eq(get(&l, 0), 2 * (3 + (2 + 3 + 4 + 5) + 2));
    cr_expect_eq(emu_waits(), 2);
    close_list(&l);
}

/* A list of two steps that together add 2 to room 0, whose first run was not captured. */
static void open_counter(list *l)
{
    open_list(l, 0);
    append(l, 0, 1, 1), append(l, 1, 0, 1);
    OK(run_list(l, 1));
}

enum { CALLS_TO_END_OF_CAPTURE = 4 /* begin, two steps, end */ };

Test(graph_capture, iterations_are_replayed_one_by_one_where_the_loop_is_refused)
{
    list l;
    open_counter(&l);
    emu_fail_at(CALLS_TO_END_OF_CAPTURE);
    OK(run_list(&l, 3));
    cr_expect_eq(get(&l, 0), 2 * (1 + 3));
    cr_expect_eq(emu_live().graphs, 1);
    cr_expect_eq(calls_of(&l, 5), 5 * REPLAY_CALLS); /* no loop capture is tried again */
    close_list(&l);
}

/* A driver may have no WHILE nodes though its version says so. */
Test(graph_capture, iterations_are_replayed_one_by_one_where_the_loop_cannot_begin)
{
    list l;
    open_counter(&l);
    emu_fail_at(1);
    OK(run_list(&l, 3));
    cr_expect_eq(get(&l, 0), 2 * (1 + 3));
    cr_expect_eq(calls_of(&l, 5), 5 * REPLAY_CALLS); /* no loop capture is tried again */
    close_list(&l);
    open_counter(&l);
    emu_fail_at(1);
    cr_assert_eq(run_list(&l, 1), DDPM_EBACKEND, "a graph without a loop is not refused: the device fails");
    close_list(&l);
}

Test(graph_capture, a_list_that_cannot_be_captured_is_a_failure)
{
    list l;
    open_counter(&l);
    emu_fail_at(CALLS_TO_END_OF_CAPTURE);
    cr_assert_eq(run_list(&l, 1), DDPM_EBACKEND);
    cr_expect(strstr(why.text, "rt_graph_end"), "%s", why.text);
    close_list(&l);
}

Test(graph_capture, iterations_are_replayed_one_by_one_where_the_device_has_no_loops)
{
    list l;
    char text[200];
    emu_get_device()->loops = false;
    open_list(&l, 0);
    append(&l, 0, 1, 1), append(&l, 1, 0, 1);
    OK(run_list(&l, 5));
    cr_expect_eq(calls_of(&l, 5), 5 * REPLAY_CALLS);
    cr_expect_eq(get(&l, 0), 2 * (5 + 5));
    l.be->fn->describe(l.be, text, sizeof text);
    cr_expect(strstr(text, "free, no loops in graphs (needs CUDA 12.4)"), "%s", text);
    close_list(&l);
}

/* ---- versions of the weights ---- */

/* An update of N weights that is skipped because its clip is 0. */
static void append_update(list *l, tensor t[5], uint64_t *version)
{
    const int i = l->n++;
    for (int k = 0; k < 5; k++) {
        t[k] = (tensor){.dtype = DTYPE_F32, .arena = ARENA_IO, .n = N, .h = 1, .w = 1, .c = 1};
        t[k].data = room(l, 12 + k);
    }
    t[4].data = room(l, 2 * STEPS); /* the train_state, larger than one room */
    cr_assert_leq(sizeof(train_state), 32 * ROOM * sizeof(float));
    t[0].version = version;
    l->steps[i] = &l->step[i];
    l->step[i] = (step){.op = OP_adamw, .path = "update"};
    l->step[i].in[UPDATE_G] = &t[3], l->step[i].in[UPDATE_STATE] = &t[4];
    l->step[i].out[UPDATE_W] = &t[0], l->step[i].out[UPDATE_M] = &t[1], l->step[i].out[UPDATE_V] = &t[2];
}

/* A normalization of N channels in 3 groups, whose launch is refused. */
static void append_refused(list *l, tensor *any)
{
    const int i = l->n++;
    l->steps[i] = &l->step[i];
    l->step[i] = (step){.op = OP_norm_act, .path = "refused", .a.norm = {.groups = 3, .eps = 1e-5f}};
    l->step[i].in[NORM_X] = l->step[i].in[NORM_GAMMA] = l->step[i].in[NORM_BETA] = any;
    l->step[i].out[NORM_Y] = l->step[i].out[NORM_MEAN] = l->step[i].out[NORM_RSTD] = any;
}

Test(graph_capture, weights_have_a_new_version_after_every_update)
{
    tensor t[5];
    uint64_t version = 1;
    list l;
    open_list(&l, 0);
    append(&l, 0, 1, 1);
    append_update(&l, t, &version);
    const uint64_t seen[] = {2, 3, 6, 7, 11};
    const int times[] = {1, 1, 3, 1, 4};
    for (int i = 0; i < 5; i++) {
        OK(run_list(&l, times[i]));
        cr_expect_eq(version, seen[i], "run %d: %d", i, (int)version);
    }
    append_refused(&l, &l.in[0]);
    cr_expect_eq(run_list(&l, 1), DDPM_EINVAL);
    cr_expect_gt(version, 11, "the weights may have changed");
    close_list(&l);
}

/* ---- failures ---- */

/* A failure that is not one of the device: the next run works, and nothing of the failed run is left running. */
Test(graph_capture, a_step_that_is_refused_leaves_nothing_running)
{
    for (int how = 0; how < 4; how++) {
        const bool captured = how & 1, on_side = how & 2;
        list l;
        open_list(&l, 0);
        append(&l, 0, 1, 1)->side = true;
        append(&l, 2, 3, 1);
        append(&l, 4, 5, 1);
        emu_set_timing(EMU_SIDE_LATE);
        if (captured) OK(run_list(&l, 1));
        const step good = l.step[2];
        append_refused(&l, &l.in[1]);
        l.step[2] = l.step[3], l.n = 3;
        l.step[2].side = on_side;
        fill(&l);
        cr_assert_eq(run_list(&l, 1), DDPM_EINVAL);
        cr_expect(strstr(why.text, "refused (norm_act)"), "%s", why.text);
        cr_expect_eq(emu_live().graphs, 0);
        put(&l, 0, 100); /* waits until the side step has read room 0 */
        cr_expect_eq(get(&l, 1), captured ? 20 : 11);
        fill(&l);
        OK(l.be->fn->run(l.be, l.steps + 1, 1, 1, &why)); /* on the main stream, wherever the refused step was */
        cr_expect_eq(get(&l, 3), 31);
        l.step[2] = good;
        for (int i = 0; i < 3; i++) {
            fill(&l);
            OK(run_list(&l, 1));
            cr_expect_eq(get(&l, 1), 11);
            cr_expect_eq(get(&l, 5), 51);
        }
        cr_expect_eq(emu_live().graphs, 1);
        close_list(&l);
    }
}

static void expect_dead(const list *l, const char *first)
{
    float v[N] = {0};
    void *memory = NULL;
    size_t scratch;
    step s = l->step[0];
    const backend_table *fn = l->be->fn;
    const long before = emu_calls();
    for (int i = 0; i < 6; i++) {
        ddpm_status st = DDPM_OK;
        why = (err){0};
        switch (i) {
        case 0: st = run_list(l, 1); break;
        case 1: st = fn->upload(l->be, l->memory, v, sizeof v, &why); break;
        case 2: st = fn->download(l->be, v, l->memory, sizeof v, &why); break;
        case 3: st = fn->alloc(l->be, 16, &memory, &why); break;
        case 4: st = fn->prepare(l->be, &s, &scratch, &why); break;
        case 5: st = fn->convert_weights(l->be, l->memory + ROOM, l->memory, 1, &why); break;
        }
        cr_assert_eq(st, DDPM_EBACKEND, "call %d after \"%s\"", i, first);
        cr_assert_str_eq(why.text, first, "call %d", i);
    }
    cr_assert_eq(emu_calls(), before, "a dead device is called");
}

/* Eager, captured, replayed; a loop; an upload and a download. */
static ddpm_status use(list *l)
{
    static float v[N] = {1, 2, 3, 4, 5}; /* static: a download that failed may still write to v */
    for (int i = 0; i < 3; i++) {
        TRY(l->be->fn->upload(l->be, l->memory, v, sizeof v, &why));
        TRY(run_list(l, 1));
    }
    for (int i = 0; i < 2; i++) TRY(run_list(l, 3));
    return l->be->fn->download(l->be, v, l->memory, sizeof v, &why);
}

Test(graph_capture, after_a_failure_of_the_device_everything_fails_alike, .timeout = 300)
{
    for (long n = 1;; n++) {
        list l;
        open_list(&l, 0);
        append(&l, 0, 1, 1)->side = true;
        append(&l, 0, 2, 1);
        append(&l, 1, 3, 1)->side = true;
        append(&l, 2, 4, 1);
        emu_set_timing((emu_timing)(n % 4));
        emu_fail_at(n);
        const ddpm_status st = use(&l);
        const bool reached = emu_calls() >= n;
        emu_fail_at(0);
        const err first = why;
        if (st == DDPM_EBACKEND) {
            cr_assert(strstr(first.text, "emulated failure of call"), "call %ld: %s", n, first.text);
            if (emu_last_error()[0]) { /* a sticky error, as a kernel's failure: the device is not called any more */
                cr_expect_str_eq(emu_last_error(), strstr(first.text, "emulated failure"));
            }
            expect_dead(&l, first.text);
        } else {
            cr_assert(st == DDPM_OK || st == DDPM_ENOMEM, "call %ld: %s %s", n, err_name(st), first.text);
        }
        if (emu_last_error()[0]) emu_reset();
        close_list(&l);
        if (!reached) {
            cr_expect_gt(n, 40);
            break;
        }
    }
}
