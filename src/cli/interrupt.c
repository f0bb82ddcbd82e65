#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static const struct handled {
    int number;
    bool stops;   /* requests a stop; else a checkpoint */
    bool insists; /* a repetition exits immediately */
} table[] = {
    {SIGINT, true, true},   {SIGTERM, true, true},  {SIGHUP, true, false},
    {SIGXCPU, true, false}, {SIGUSR1, true, false}, {SIGUSR2, false, false},
};
enum { HANDLED = sizeof table / sizeof table[0] };

static volatile sig_atomic_t stop_signal, save_requested, insistent_before, at_once;
static struct timespec first_insistent;

/* coreutils' timeout and many supervisors send each signal twice at once, to the child and to its process group: only a
 * signal at least a second after the first counts as a repetition. */
static bool is_a_second_later(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    if (!insistent_before) {
        insistent_before = 1;
        first_insistent = now;
        return false;
    }
    const double elapsed =
        (double)(now.tv_sec - first_insistent.tv_sec) + 1e-9 * (double)(now.tv_nsec - first_insistent.tv_nsec);
    return elapsed >= 1;
}

static void on_signal(int number)
{
    const int saved_errno = errno;
    for (int i = 0; i < HANDLED; i++) {
        if (table[i].number != number) continue;
        if (at_once && table[i].stops && number != SIGUSR1) {
            (void)signal(number, SIG_DFL);
            (void)raise(number); /* delivered when the handler returns */
        }
        if (table[i].insists && is_a_second_later()) _exit(128 + number);
        if (!table[i].stops) save_requested = 1;
        if (table[i].stops && !stop_signal) stop_signal = number;
    }
    errno = saved_errno;
}

ddpm_status interrupt_install(err *e)
{
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART}; /* interrupted reads restart */
    struct sigaction before;
    stop_signal = save_requested = insistent_before = at_once = 0;
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < HANDLED; i++) sigaddset(&action.sa_mask, table[i].number);
    for (int i = 0; i < HANDLED; i++) {
        const int number = table[i].number;
        if (sigaction(number, NULL, &before) ||
            (before.sa_handler != SIG_IGN && sigaction(number, &action, NULL))) /* nohup: ignored stays ignored */
            return err_errno(e, DDPM_EBACKEND, errno, "cannot handle signal %d", number);
    }
    return DDPM_OK;
}

void interrupt_at_once(bool yes) { at_once = yes; }

int interrupt_stop(void) { return stop_signal; }

bool interrupt_save(void)
{
    const bool requested = save_requested;
    if (requested) save_requested = 0; /* a signal in between is served by the same checkpoint */
    return requested;
}
