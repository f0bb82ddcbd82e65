/* Signals: the first asks, a later one insists. */
#include <time.h>

static struct timespec fake_now = {.tv_sec = 1000};
static int fake_clock(clockid_t clock, struct timespec *now)
{
    *now = fake_now;
    return 0;
}
#define clock_gettime fake_clock
#include "cli/interrupt.c"

#include <criterion/criterion.h>
#include <sys/wait.h>

enum { LATER = -1 }; /* in place of a signal: a second passes */

/* nohup, or a shell's background, may have handed some down as ignored. */
static void take_defaults(void)
{
    for (int i = 0; i < HANDLED; i++) (void)signal(table[i].number, SIG_DFL);
}
TestSuite(interrupt, .init = take_defaults);

/* The exit status of a child that gets these signals, in this order, and then exits with 85 if asked to
 * stop by `expected`, with 1 if not. */
static int child_gets(const int *signals, int count, int expected)
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        if (interrupt_install(NULL) != DDPM_OK) _exit(2);
        for (int i = 0; i < count; i++) {
            if (signals[i] == LATER)
                fake_now.tv_sec++;
            else
                (void)raise(signals[i]);
        }
        _exit(interrupt_stop() == expected ? 85 : 1);
    }
    cr_assert(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/* faults C3: while kernels were timed nobody looked.  Then they end the program as they do by themselves. */
Test(interrupt, before_the_run_looks_a_signal_ends_it_at_once)
{
    static const int ends[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU}, noted[] = {SIGUSR1, SIGUSR2};
    int status;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const pid_t child = fork();
        if (child == 0) {
            if (interrupt_install(NULL) != DDPM_OK) _exit(2);
            interrupt_at_once(true);
            (void)raise(ends[i]);
            _exit(0);
        }
        cr_assert(child > 0 && waitpid(child, &status, 0) == child);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == ends[i], "signal %d: %x", ends[i], status);
    }
    cr_assert_eq(interrupt_install(NULL), DDPM_OK);
    interrupt_at_once(true);
    for (size_t i = 0; i < sizeof noted / sizeof *noted; i++) (void)raise(noted[i]);
    interrupt_at_once(false);
    (void)raise(SIGTERM);
    cr_expect(interrupt_stop() == SIGUSR1 && interrupt_save());
}

/* faults A5: HUP and XCPU ended a run unsaved; A6: so did timeout's second TERM, a moment after the first. */
Test(interrupt, the_first_asks_a_later_one_insists)
{
    static const struct {
        int signals[4], count, expected, code;
    } known[] = {
        {{0}, 0, 0, 85},
        {{SIGINT}, 1, SIGINT, 85},
        {{SIGTERM}, 1, SIGTERM, 85},
        {{SIGUSR1}, 1, SIGUSR1, 85},
        {{SIGHUP}, 1, SIGHUP, 85},
        {{SIGXCPU}, 1, SIGXCPU, 85},
        {{SIGUSR1, LATER, SIGUSR1}, 3, SIGUSR1, 85}, /* a batch system that repeats itself */
        {{SIGHUP, LATER, SIGHUP}, 3, SIGHUP, 85},    /* the shell, and then the terminal's end */
        {{SIGXCPU, LATER, SIGXCPU}, 3, SIGXCPU, 85}, /* the system says it every second */
        {{SIGUSR1, LATER, SIGTERM}, 3, SIGUSR1, 85}, /* and then means it: the save goes on */
        {{SIGHUP, LATER, SIGTERM}, 3, SIGHUP, 85},
        {{SIGINT, SIGUSR1, SIGUSR2}, 3, SIGINT, 85},
        {{SIGTERM, SIGTERM}, 2, SIGTERM, 85}, /* timeout: to the child, and to its group */
        {{SIGTERM, SIGINT}, 2, SIGTERM, 85},
        {{SIGINT, SIGINT}, 2, SIGINT, 85},
        {{SIGINT, LATER, SIGINT}, 3, 0, 128 + SIGINT},
        {{SIGINT, LATER, SIGTERM}, 3, 0, 128 + SIGTERM},
        {{SIGTERM, SIGTERM, LATER, SIGTERM}, 4, 0, 128 + SIGTERM},
        {{SIGTERM, LATER, SIGUSR1, SIGINT}, 4, 0, 128 + SIGINT},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        cr_expect_eq(child_gets(known[i].signals, known[i].count, known[i].expected), known[i].code, "row %zu", i);
}

/* faults F7: a script's job in the background ended by the Ctrl-C that was meant for another. */
Test(interrupt, what_was_ignored_on_entry_stays_ignored)
{
    for (int i = 0; i < HANDLED; i++) {
        (void)signal(table[i].number, SIG_IGN);
        cr_expect_eq(child_gets((const int[]){table[i].number}, 1, 0), 85, "signal %d", table[i].number);
        (void)signal(table[i].number, SIG_DFL);
    }
}

Test(interrupt, usr2_saves_once_and_stops_nothing)
{
    cr_assert_eq(interrupt_install(NULL), DDPM_OK);
    cr_assert(!interrupt_save());
    (void)raise(SIGUSR2);
    cr_assert(interrupt_save());
    cr_assert(!interrupt_save());
    cr_assert_eq(interrupt_stop(), 0);
    (void)raise(SIGINT);
    cr_assert_eq(interrupt_install(NULL), DDPM_OK);
    cr_assert_eq(interrupt_stop(), 0, "a new run begins without the old one's signals");
}
