/* Lists of steps on two streams of the emulated device: a step waits for what the other stream writes or still reads,
 * and for nothing else. */
#include "backend/emulated/step_list.h"

/* Runs a list three times in every timing, eagerly and captured; `begin` fills the memory before each, `check` looks
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

Test(side_stream, the_optimizer_waits_for_every_gradient) { in_every_timing(build_optimizer, fill, check_optimizer); }

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

Test(side_stream, columns_are_their_matrix) { in_every_timing(build_columns, fill, check_columns); }

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

Test(side_stream, side_work_ends_before_its_operands_do)
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

Test(side_stream, side_work_ends_though_none_follows)
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

Test(side_stream, side_work_begins_when_main_got_there) { in_every_timing(build_forks, fill, check_forks); }

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

Test(side_stream, side_steps_are_waited_for_each_in_its_turn) { in_every_timing(build_order, fill, check_order); }

/* The end of a side step is waited for once: what follows knows it. */
Test(side_stream, nobody_waits_twice)
{
    enum { RECORD_BEFORE = 1, WAIT_BEFORE, LAUNCH_SIDE, RECORD_AFTER, WAIT_AFTER, SIDE_STEP_CALLS = WAIT_AFTER };
    list l;
    open_list(&l, CUDA_NO_GRAPH);
    append(&l, 0, 1, 1)->side = true;
    append(&l, 1, 2, 1);
    l.step[1].in[0] = &l.out[0];
    for (int i = 0; i < 3; i++) append(&l, 3, 4, 1)->in[0] = &l.out[0];
    cr_expect_eq(calls_of(&l, 1), SIDE_STEP_CALLS + 4);
    close_list(&l);
}

/* Main work goes on beside the side step, which is the point of it: late, it sees what main leaves. */
Test(side_stream, main_does_not_wait_for_what_it_does_not_need)
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
