/* Lists of steps on the emulated device: recorded, in a loop and on two streams; who waits for whom, what is recorded
 * again, and what a failure leaves. */
#include "backend/emulated/step_list.h"

Test(cuda_run, a_list_is_recorded_once_and_launched_ever_after)
{
    list l;
    open_list(&l, 0);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    cr_expect_eq(calls_of(&l, 1), 2); /* as it is */
    cr_expect_eq(emu_live().graphs, 0);
    cr_expect_gt(calls_of(&l, 1), 2);
    cr_expect_eq(emu_live().graphs, 1);
    cr_expect_eq(calls_of(&l, 1), 1);
    cr_expect_eq(calls_of(&l, 1), 1);
    const long recording = calls_of(&l, 4);
    cr_expect_eq(emu_live().graphs, 2);
    cr_expect_eq(calls_of(&l, 4), 3); /* the turns are uploaded when the upload before is done */
    cr_expect_gt(recording, 3);
    cr_expect_eq(calls_of(&l, 7), 3);
    cr_expect_eq(calls_of(&l, 2), 3);
    cr_expect_eq(calls_of(&l, 1), 1);
    cr_expect_eq(emu_live().graphs, 2);
    l.be->fn->unprepare(l.be, l.steps[1]);
    cr_expect_eq(emu_live().graphs, 0);
    cr_expect_eq(calls_of(&l, 1), 2);
    close_list(&l);
}

Test(cuda_run, without_graphs_every_step_is_launched_every_time)
{
    list l;
    open_list(&l, CUDA_NO_GRAPH);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    for (int i = 0; i < 3; i++) cr_expect_eq(calls_of(&l, 3), 6);
    cr_expect_eq(emu_live().graphs, 0);
    close_list(&l);
    open_list(&l, CUDA_NO_LOOP);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    (void)calls_of(&l, 5);
    cr_expect_eq(calls_of(&l, 5), 5);
    close_list(&l);
    open_list(&l, 0);
    append(&l, 0, 1, 2); /* a single step gains nothing */
    for (int i = 0; i < 3; i++) cr_expect_eq(calls_of(&l, 2), 2);
    cr_expect_eq(emu_live().graphs, 0);
    close_list(&l);
}

Test(cuda_run, a_list_that_grew_is_another_list)
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
    step **other = l.steps + 1; /* as many steps, another list */
    put(&l, 1, 0), put(&l, 2, 0);
    for (int i = 0; i < 2; i++) OK(l.be->fn->run(l.be, other, 2, 1, &why));
    cr_expect_eq(get(&l, 3), 3);
    cr_expect_eq(emu_live().graphs, 3);
    close_list(&l);
}

/* Where anything a step works on lies elsewhere, the recording is of no use. */
Test(cuda_run, what_has_moved_is_recorded_again)
{
    list l;
    tensor scratch = {.dtype = DTYPE_F32, .n = 1, .h = 1, .w = 1, .c = N};
    open_list(&l, 0);
    append(&l, 0, 1, 2), append(&l, 1, 2, 2);
    scratch.data = room(&l, 9);
    l.step[0].scratch = &scratch;
    l.in[1].low = room(&l, 10);
    put(&l, 0, 1), put(&l, 4, 5);
    OK(run_list(&l, 1));
    OK(run_list(&l, 1));
    cr_expect_eq(get(&l, 2), 7);
    l.in[0].data = room(&l, 4);
    cr_expect_gt(calls_of(&l, 1), 2);
    cr_expect_eq(get(&l, 2), 23);
    l.out[1].data = room(&l, 5);
    cr_expect_gt(calls_of(&l, 1), 2);
    cr_expect_eq(get(&l, 5), 23);
    cr_expect_eq(calls_of(&l, 1), 1);
    scratch.data = room(&l, 11);
    cr_expect_gt(calls_of(&l, 1), 2);
    l.in[1].low = room(&l, 12);
    cr_expect_gt(calls_of(&l, 1), 2);
    void *const first = l.out[0].data; /* the same places, changed about */
    l.out[0].data = l.in[1].data = l.out[1].data;
    l.out[1].data = first;
    cr_expect_gt(calls_of(&l, 1), 2);
    cr_expect_eq(get(&l, 1), 23);
    cr_expect_eq(get(&l, 5), 11);
    l.step[1].in[STEP_IN - 1] = &l.in[1]; /* and other positions */
    cr_expect_gt(calls_of(&l, 1), 2);
    l.step[1].in[1] = &l.in[1], l.step[1].in[STEP_IN - 1] = NULL;
    cr_expect_gt(calls_of(&l, 1), 2);
    l.step[1].out[STEP_OUT - 1] = &l.out[1];
    cr_expect_gt(calls_of(&l, 1), 2);
    (void)calls_of(&l, 5);
    cr_expect_eq(calls_of(&l, 5), 3);
    l.out[1].data = room(&l, 6);
    cr_expect_gt(calls_of(&l, 5), 5);
    cr_expect_eq(get(&l, 6), 23);
    cr_expect_eq(emu_live().graphs, 2);
    l.out[1].data = room(&l, 7);
    emu_fail_at(1);
    cr_expect_eq(run_list(&l, 1), DDPM_EBACKEND); /* the old recording is gone, and no new one there */
    cr_expect_eq(emu_live().graphs, 1);
    close_list(&l);
}

Test(cuda_run, loops_take_the_turns_they_are_given)
{
    for (int t = EMU_AT_ONCE; t <= EMU_ALL_LATE; t++) {
        list l;
        open_list(&l, 0);
        emu_set_timing((emu_timing)t);
        append(&l, 0, 1, 1), append(&l, 1, 0, 1); /* plus 2 a turn */
        float sum = 0;
        for (int times = 1; times < 7; times++) {
            for (int again = 0; again < 2; again++) { /* one after the other, with no wait between them */
                OK(run_list(&l, times));
                sum += 2.0f * (float)times;
            }
        }
        cr_expect_eq(get(&l, 0), sum, "timing %d: %g, not %g", t, (double)get(&l, 0), (double)sum);
        close_list(&l);
    }
}

Test(cuda_run, turns_are_launched_one_by_one_where_loops_are_not_to_be_had)
{
    list l;
    open_list(&l, 0);
    append(&l, 0, 1, 1), append(&l, 1, 0, 1);
    OK(run_list(&l, 1));
    emu_fail_at(4); /* begin, two steps, end */
    OK(run_list(&l, 3));
    cr_expect_eq(get(&l, 0), 8);
    cr_expect_eq(emu_live().graphs, 1);
    cr_expect_eq(calls_of(&l, 5), 5); /* and no loop is tried again */
    close_list(&l);
    open_list(&l, 0);
    append(&l, 0, 1, 1), append(&l, 1, 0, 1);
    OK(run_list(&l, 1));
    emu_fail_at(4);
    cr_assert_eq(run_list(&l, 1), DDPM_EBACKEND); /* no loop: nothing else is left to try */
    cr_expect(strstr(why.text, "rt_graph_end"), "%s", why.text);
    close_list(&l);
    emu_get_device()->loops = false;
    open_list(&l, 0);
    append(&l, 0, 1, 1), append(&l, 1, 0, 1);
    OK(run_list(&l, 5));
    cr_expect_eq(calls_of(&l, 5), 5);
    cr_expect_eq(get(&l, 0), 20);
    close_list(&l);
}

/* ---- who waits for whom ---- */

/* Runs a list three times in every timing, eagerly and recorded; `begin` fills the memory before each, `check` looks
 * at it after. */
static void in_every_timing(void (*build)(list *l), void (*begin)(const list *l), void (*check)(const list *l))
{
    for (int eager = 0; eager < 2; eager++)
        for (int t = EMU_AT_ONCE; t <= EMU_ALL_LATE; t++) {
            list l;
            open_list(&l, eager ? CUDA_NO_GRAPH : 0);
            emu_set_timing((emu_timing)t);
            build(&l);
            for (int i = 0; i < 3; i++) {
                begin(&l);
                OK(run_list(&l, 1));
                check(&l);
            }
            close_list(&l);
        }
}

static void fill(const list *l)
{
    for (int i = 0; i < STEPS; i++) put(l, i, (float)(10 * (i + 1)));
}

/* All gradients at once are another tensor than each of them. */
static void build_optimizer(list *l)
{
    append(l, 0, 1, 1)->side = true;
    append(l, 2, 3, 1);
    append(l, 1, 4, 1);
    l->in[2].arena = ARENA_GRAD;
}

static void check_optimizer(const list *l)
{
    cr_expect_eq(get(l, 4), 12);
    cr_expect_eq(get(l, 3), 31);
}

Test(cuda_run, the_optimizer_waits_for_every_gradient) { in_every_timing(build_optimizer, fill, check_optimizer); }

/* Columns of a matrix are other tensors than the matrix. */
static void build_columns(list *l)
{
    append(l, 0, 1, 1)->side = true; /* writes the matrix */
    append(l, 1, 2, 1);              /* reads its columns */
    l->in[1].base = &l->out[0];
    append(l, 3, 4, 1)->side = true; /* reads columns */
    append(l, 5, 3, 1);              /* writes the matrix */
    l->in[2].base = &l->out[3];
    append(l, 6, 7, 1)->side = true; /* writes columns */
    append(l, 8, 7, 1);              /* writes others of the same matrix */
    l->out[4].base = l->out[5].base = &l->in[8];
}

static void check_columns(const list *l)
{
    cr_expect_eq(get(l, 2), 12);
    cr_expect_eq(get(l, 4), 41);
    cr_expect_eq(get(l, 7), 91);
}

Test(cuda_run, columns_are_their_matrix) { in_every_timing(build_columns, fill, check_columns); }

/* The memory of a side step's operands is another's from SIDE_WINDOW + 1 steps on: here, whoever stands in between,
 * the last step overwrites what the first one reads. */
static int second_at; /* the other side step, which may take the first one's place among those that are waited for */

static void build_window(list *l)
{
    for (int i = 0; i <= SIDE_WINDOW; i++) {
        if (i == 0)
            append(l, 0, 1, 1)->side = true;
        else if (i == second_at)
            append(l, 4, 5, 1)->side = true;
        else
            append(l, 2, 3, 1);
    }
    append(l, 6, 0, 1);
}

static void check_window(const list *l)
{
    cr_expect_eq(get(l, 1), 11);
    cr_expect_eq(get(l, 5), 51);
    cr_expect_eq(get(l, 0), 71);
}

Test(cuda_run, side_work_ends_before_its_operands_do)
{
    for (second_at = 1; second_at <= SIDE_WINDOW; second_at++) in_every_timing(build_window, fill, check_window);
}

static void build_window_of_main(list *l)
{
    append(l, 0, 1, 1)->side = true;
    for (int i = 1; i <= SIDE_WINDOW; i++) append(l, 2, 3, 1);
    append(l, 6, 0, 1);
}

static void check_window_of_main(const list *l) { cr_expect_eq(get(l, 1), 11); }

Test(cuda_run, side_work_ends_though_none_follows)
{
    in_every_timing(build_window_of_main, fill, check_window_of_main);
}

/* Side steps that read what main made, each something else. */
static void build_forks(list *l)
{
    for (int i = 0; i < 3; i++) {
        append(l, 3 * i, 3 * i + 1, 1);
        append(l, 3 * i + 1, 3 * i + 2, 1)->side = true;
    }
}

static void check_forks(const list *l)
{
    for (int i = 0; i < 3; i++) cr_expect_eq(get(l, 3 * i + 2), (float)(30 * i + 12));
}

Test(cuda_run, side_work_begins_when_main_got_there) { in_every_timing(build_forks, fill, check_forks); }

/* A wait for one ends the wait for those before it, and not for those after it. */
static void build_order(list *l)
{
    append(l, 0, 1, 1)->side = true;
    append(l, 2, 3, 1)->side = true;
    append(l, 4, 5, 1)->side = true;
    tensor *const second = &l->out[1], *const third = &l->out[2];
    append(l, 3, 6, 1);
    l->step[3].in[0] = second;
    append(l, 5, 7, 1);
    l->step[4].in[0] = third;
}

static void check_order(const list *l)
{
    cr_expect_eq(get(l, 6), 32);
    cr_expect_eq(get(l, 7), 52);
}

Test(cuda_run, side_steps_are_waited_for_each_in_its_turn) { in_every_timing(build_order, fill, check_order); }

/* The end of a side step is waited for once: what follows knows it. */
Test(cuda_run, nobody_waits_twice)
{
    enum { RECORD_BEFORE = 1, WAIT_BEFORE, LAUNCH_ASIDE, RECORD_AFTER, WAIT_AFTER, ASIDE_CALLS = WAIT_AFTER };
    list l;
    open_list(&l, CUDA_NO_GRAPH);
    append(&l, 0, 1, 1)->side = true;
    append(&l, 1, 2, 1);
    l.step[1].in[0] = &l.out[0];
    for (int i = 0; i < 3; i++) append(&l, 3, 4, 1)->in[0] = &l.out[0];
    cr_expect_eq(calls_of(&l, 1), ASIDE_CALLS + 4);
    close_list(&l);
}

/* Main work goes on beside the side step, which is the point of it: late, it sees what main leaves. */
Test(cuda_run, main_does_not_wait_for_what_it_does_not_need)
{
    for (int eager = 0; eager < 2; eager++) {
        list l;
        open_list(&l, eager ? CUDA_NO_GRAPH : 0);
        append(&l, 0, 1, 1)->side = true;
        append(&l, 2, 3, 1);
        append(&l, 4, 0, 1); /* a mistake: another tensor in the same memory, within the window */
        emu_set_timing(EMU_SIDE_LATE);
        for (int i = 0; i < 2; i++) {
            fill(&l);
            OK(run_list(&l, 1));
            cr_expect_eq(get(&l, 1), 52);
        }
        close_list(&l);
    }
}

/* ---- versions of the weights ---- */

/* An update of N weights that is skipped, its clip being 0. */
static void append_update(list *l, tensor t[5], uint64_t *version)
{
    const int i = l->n++;
    for (int k = 0; k < 5; k++) {
        t[k] = (tensor){.dtype = DTYPE_F32, .arena = ARENA_IO, .n = N, .h = 1, .w = 1, .c = 1};
        t[k].data = room(l, 12 + k);
    }
    t[4].data = room(l, 16); /* the state: more than one room */
    cr_assert_leq(sizeof(train_state), 4 * ROOM * sizeof(float));
    t[0].version = version;
    l->steps[i] = &l->step[i];
    l->step[i] = (step){.op = OP_adamw, .path = "update"};
    l->step[i].in[UPDATE_G] = &t[3], l->step[i].in[UPDATE_STATE] = &t[4];
    l->step[i].out[UPDATE_W] = &t[0], l->step[i].out[UPDATE_M] = &t[1], l->step[i].out[UPDATE_V] = &t[2];
}

/* A normalization of N channels in 3 groups, which is refused when it is launched. */
static void append_refused(list *l, tensor *any)
{
    const int i = l->n++;
    l->steps[i] = &l->step[i];
    l->step[i] = (step){.op = OP_norm_act, .path = "refused", .a.norm = {.groups = 3, .eps = 1e-5f}};
    l->step[i].in[NORM_X] = l->step[i].in[NORM_GAMMA] = l->step[i].in[NORM_BETA] = any;
    l->step[i].out[NORM_Y] = l->step[i].out[NORM_MEAN] = l->step[i].out[NORM_RSTD] = any;
}

Test(cuda_run, weights_have_a_new_version_after_every_update)
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

/* One that does not touch the device: the next run is on its own. */
Test(cuda_run, a_step_that_is_refused_leaves_nothing_running)
{
    for (int how = 0; how < 4; how++) {
        const bool recorded = how & 1, aside = how & 2;
        list l;
        open_list(&l, 0);
        append(&l, 0, 1, 1)->side = true;
        append(&l, 2, 3, 1);
        append(&l, 4, 5, 1);
        emu_set_timing(EMU_SIDE_LATE);
        if (recorded) OK(run_list(&l, 1));
        const step good = l.step[2];
        append_refused(&l, &l.in[1]);
        l.step[2] = l.step[3], l.n = 3;
        l.step[2].side = aside;
        fill(&l);
        cr_assert_eq(run_list(&l, 1), DDPM_EINVAL);
        cr_expect(strstr(why.text, "refused (norm_act)"), "%s", why.text);
        cr_expect_eq(emu_live().graphs, 0);
        put(&l, 0, 100); /* not while the side step may still read it */
        cr_expect_eq(get(&l, 1), recorded ? 20 : 11);
        fill(&l);
        OK(l.be->fn->run(l.be, l.steps + 1, 1, 1, &why)); /* on the main stream, whichever the refused one was for */
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
        case 5: st = fn->convert(l->be, l->memory + ROOM, l->memory, 1, &why); break;
        }
        cr_assert_eq(st, DDPM_EBACKEND, "call %d after \"%s\"", i, first);
        cr_assert_str_eq(why.text, first, "call %d", i);
    }
    cr_assert_eq(emu_calls(), before, "a dead device is called");
}

/* Eager, recorded, launched; a loop; an upload and a download. */
static ddpm_status use(list *l)
{
    static float v[N] = {1, 2, 3, 4, 5}; /* a download that failed may still write to it */
    for (int i = 0; i < 3; i++) {
        TRY(l->be->fn->upload(l->be, l->memory, v, sizeof v, &why));
        TRY(run_list(l, 1));
    }
    for (int i = 0; i < 2; i++) TRY(run_list(l, 3));
    return l->be->fn->download(l->be, v, l->memory, sizeof v, &why);
}

Test(cuda_run, after_a_failure_of_the_device_everything_fails_alike, .timeout = 300)
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
            if (emu_last_error()[0]) { /* sticks, as a kernel's failure does: the device is called no more */
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
