/* interrupt.h - a polite end for a long run.
 *
 *   INT, TERM   finish the step, save, leave with DDPM_ESAVED; a second one leaves at once, with 128 + its number
 *   USR1        the same request, for batch systems that announce a time limit; any number of them
 *   USR2        save, and go on
 *
 * The handlers only take a note; the run looks at it between steps. */
#ifndef DDPM_INTERRUPT_H
#define DDPM_INTERRUPT_H
#include "core/err.h"
#include <stdbool.h>

/* Put the handlers in place and forget what came before.  DDPM_EBACKEND if the system refuses. */
DDPM_MUST_CHECK ddpm_status interrupt_install(err *e);

int interrupt_stop(void);  /* the number of the signal that asked to stop, first one; 0 = none */
bool interrupt_save(void); /* whether a USR2 has come since the last call */

#endif
