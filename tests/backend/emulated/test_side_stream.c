/* Lists of steps on two streams of the emulated device: a step waits only for steps of the other stream that write
 * tensors it touches, or still read tensors it writes.
 *
 * Every step copies one room of the memory to another and adds 1.  Room i holds 10 (i + 1) before a run, so that a
 * result identifies its source: 12 is the value of room 0 after two steps. */
#include "backend/emulated/step_list.h"

/* Run a list three times in every timing, with and without graphs; `check` reads the memory after each run. */
static void in_every_timing(void (*build)(list *l), void (*check)(const list *l))
{
    for (int eager = 0; eager < 2; eager++)
        for (int t = EMU_AT_ONCE; t <= EMU_ALL_LATE; t++) {
            list l;
            open_list(&l, eager ? CUDA_OPT_GRAPH : 0);
            emu_set_timing((emu_timing)t);
            build(&l);
            for (int i = 0; i < 3; i++) {
                fill(&l);
                OK(run_list(&l, 1));
                check(&l);
            }
            close_list(&l);
        }
}

/* The optimizer reads one tensor that holds all gradients; the steps before it write a tensor for each. */
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

Test(side_stream, the_optimizer_waits_for_every_gradient) { in_every_timing(build_optimizer, check_optimizer); }

/* A range of columns is a tensor of its own, whose base is the matrix. */
static void build_columns(list *l)
{
    append(l, 0, 1, 1)->side = true; /* writes the matrix */
    append(l, 1, 2, 1);              /* reads its columns */
    l->in[1].base = &l->out[0];
    append(l, 3, 4, 1)->side = true; /* reads columns */
    append(l, 5, 3, 1);              /* writes the matrix */
    l->in[2].base = &l->out[3];
    append(l, 6, 7, 1)->side = true; /* writes columns */
    append(l, 8, 7, 1);              /* writes other columns of the same matrix */
    l->out[4].base = l->out[5].base = &l->in[8];
}

static void check_columns(const list *l)
{
    cr_expect_eq(get(l, 2), 12);
    cr_expect_eq(get(l, 4), 41);
    cr_expect_eq(get(l, 7), 91);
}

Test(side_stream, a_step_that_reads_columns_waits_for_the_matrix_and_the_reverse)
{
    in_every_timing(build_columns, check_columns);
}

/* The memory plan may give the memory of a side step's operands to another tensor SIDE_WINDOW + 1 steps later.  Here
 * the last step overwrites the room that the first step, a side step, reads. */
static int second_at; /* the index of another side step, whose event must not replace that of the first */

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

Test(side_stream, a_side_step_ends_before_its_operands_are_overwritten)
{
    for (second_at = 1; second_at <= SIDE_WINDOW; second_at++) in_every_timing(build_window, check_window);
}

static void build_window_of_main(list *l)
{
    append(l, 0, 1, 1)->side = true;
    for (int i = 1; i <= SIDE_WINDOW; i++) append(l, 2, 3, 1);
    append(l, 6, 0, 1);
}

static void check_window_of_main(const list *l) { cr_expect_eq(get(l, 1), 11); }

Test(side_stream, the_only_side_step_ends_before_its_operands_are_overwritten)
{
    in_every_timing(build_window_of_main, check_window_of_main);
}

/* Each side step reads the output of another step of the main stream. */
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

Test(side_stream, a_side_step_waits_for_the_step_that_writes_its_input) { in_every_timing(build_forks, check_forks); }

/* Waiting for a side step covers the side steps before it, and none after it. */
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

Test(side_stream, a_side_step_is_waited_for_after_an_earlier_one_was) { in_every_timing(build_order, check_order); }

/* Once the main stream has waited for a side step, later steps need not wait for it again. */
Test(side_stream, a_side_step_is_waited_for_once)
{
    enum { RECORD_BEFORE = 1, WAIT_BEFORE, LAUNCH_SIDE, RECORD_AFTER, WAIT_AFTER, SIDE_STEP_CALLS = WAIT_AFTER };
    list l;
    open_list(&l, CUDA_OPT_GRAPH);
    append(&l, 0, 1, 1)->side = true;
    append(&l, 1, 2, 1);
    l.step[1].in[0] = &l.out[0];
    for (int i = 0; i < 3; i++) append(&l, 3, 4, 1)->in[0] = &l.out[0];
    cr_expect_eq(calls_of(&l, 1), SIDE_STEP_CALLS + 4);
    close_list(&l);
}

/* The main stream continues during a side step: a late side step reads a value that a later main step wrote. */
Test(side_stream, the_main_stream_does_not_wait_without_need)
{
    for (int eager = 0; eager < 2; eager++) {
        list l;
        open_list(&l, eager ? CUDA_OPT_GRAPH : 0);
        append(&l, 0, 1, 1)->side = true;
        append(&l, 2, 3, 1);
        append(&l, 4, 0, 1); /* a mistake of the memory plan: the same memory within the window */
        emu_set_timing(EMU_SIDE_LATE);
        for (int i = 0; i < 2; i++) {
            fill(&l);
            OK(run_list(&l, 1));
            cr_expect_eq(get(&l, 1), 52);
        }
        close_list(&l);
    }
}
