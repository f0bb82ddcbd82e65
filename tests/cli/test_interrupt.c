/* Signals: the first asks, the second insists. */
#include "cli/interrupt.c"

#include <criterion/criterion.h>
#include <sys/wait.h>

/* The exit status of a child that gets these signals, in this order, and then exits with 85 if asked to
 * stop by `expected`, with 1 if not. */
static int child_gets(const int *signals, int count, int expected)
{
    int status;
    const pid_t child = fork();
    if (child == 0) {
        if (interrupt_install(NULL) != DDPM_OK) _exit(2);
        for (int i = 0; i < count; i++) (void)raise(signals[i]);
        _exit(interrupt_stop() == expected ? 85 : 1);
    }
    cr_assert(child > 0 && waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Test(interrupt, the_first_asks_the_second_insists)
{
    static const struct {
        int signals[4], count, expected, code;
    } known[] = {
        {{0}, 0, 0, 85},
        {{SIGINT}, 1, SIGINT, 85},
        {{SIGTERM}, 1, SIGTERM, 85},
        {{SIGUSR1}, 1, SIGUSR1, 85},
        {{SIGUSR1, SIGUSR1, SIGUSR1}, 3, SIGUSR1, 85}, /* a batch system that repeats itself */
        {{SIGUSR1, SIGTERM}, 2, SIGUSR1, 85},          /* and then means it: the save goes on */
        {{SIGINT, SIGUSR1, SIGUSR2}, 3, SIGINT, 85},
        {{SIGINT, SIGINT}, 2, 0, 128 + SIGINT},
        {{SIGINT, SIGTERM}, 2, 0, 128 + SIGTERM},
        {{SIGTERM, SIGUSR1, SIGINT}, 3, 0, 128 + SIGINT},
        {{SIGUSR1, SIGTERM, SIGTERM}, 3, 0, 128 + SIGTERM},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        cr_expect_eq(child_gets(known[i].signals, known[i].count, known[i].expected), known[i].code, "row %zu", i);
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
