#include "cli/interrupt.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal, save_asked, insisted;

static void on_stop(int number)
{
    if (number != SIGUSR1 && insisted++) _exit(128 + number);
    if (!stop_signal) stop_signal = number;
}

static void on_save(int number)
{
    (void)number;
    save_asked = 1;
}

ddpm_status interrupt_install(err *e)
{
    static const struct {
        int number;
        void (*handler)(int);
    } table[] = {{SIGINT, on_stop}, {SIGTERM, on_stop}, {SIGUSR1, on_stop}, {SIGUSR2, on_save}};
    struct sigaction action = {.sa_flags = SA_RESTART}; /* a read or write that was under way goes on */
    stop_signal = save_asked = insisted = 0;
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) sigaddset(&action.sa_mask, table[i].number);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        action.sa_handler = table[i].handler;
        if (sigaction(table[i].number, &action, NULL) != 0)
            return err_errno(e, DDPM_EBACKEND, errno, "cannot handle signal %d", table[i].number);
    }
    return DDPM_OK;
}

int interrupt_stop(void) { return stop_signal; }

bool interrupt_save(void)
{
    const bool asked = save_asked;
    if (asked) save_asked = 0; /* one that comes in between is answered by the same checkpoint */
    return asked;
}
