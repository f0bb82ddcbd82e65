/* interrupt.h - signals that stop a long run gracefully or request a checkpoint.
 *
 *   INT, TERM   finish the step, save, and exit with DDPM_ESAVED; a second one, at least a second after the first,
 *               exits immediately with 128 + its number
 *   HUP, XCPU, USR1
 *               the same request, but never an immediate exit: a closed terminal, a CPU time limit, and batch systems
 *               that announce a time limit
 *   USR2        save and continue
 *
 * A signal that was ignored when the program began stays ignored (nohup; background jobs of a script).
 * The handlers only set flags, which the run polls between steps. */
#ifndef DDPM_INTERRUPT_H
#define DDPM_INTERRUPT_H
#include "base/err.h"
#include <stdbool.h>

/* Install the handlers and clear earlier requests.  DDPM_EBACKEND if a handler cannot be installed. */
DDPM_MUST_CHECK ddpm_status interrupt_install(err *e);

/* Choose whether INT, TERM, HUP and XCPU end the program immediately, as by default: for phases with nothing to save
 * in which the flags are not polled.  Off after interrupt_install(). */
void interrupt_at_once(bool yes);

int interrupt_stop(void);  /* number of the first signal that requested a stop; 0 = none */
bool interrupt_save(void); /* was USR2 received since the last call? */

#endif
