/* interrupt.h - a polite end for a long run.
 *
 *   INT, TERM   finish the step, save, leave with DDPM_ESAVED; another of the two at least a second after the first
 *               leaves at once, with 128 + its number
 *   HUP, XCPU, USR1
 *               the same request, any number of them: a closed terminal, a limit of processor time, and batch systems
 *               that announce a time limit
 *   USR2        save, and go on
 *
 * A signal that was ignored when the program began stays ignored (nohup; jobs in the background of a script).
 * The handlers only take a note; the run looks at it between steps. */
#ifndef DDPM_INTERRUPT_H
#define DDPM_INTERRUPT_H
#include "base/err.h"
#include <stdbool.h>

/* Put the handlers in place and forget what came before.  DDPM_EBACKEND if the system refuses. */
DDPM_MUST_CHECK ddpm_status interrupt_install(err *e);

/* Whether INT, TERM, HUP and XCPU end the program at once, as they do by themselves: for as long as there is nothing to
 * save, and nobody looks.  Not so after interrupt_install(). */
void interrupt_at_once(bool yes);

int interrupt_stop(void);  /* the number of the signal that asked to stop, first one; 0 = none */
bool interrupt_save(void); /* whether a USR2 has come since the last call */

#endif
