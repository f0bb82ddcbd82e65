/* threads.h - how many threads compute, and that they can be had.
 *
 * OpenMP's runtime ends the process where it cannot start a thread, so whether it will be able to is found out before
 * it tries.  Each thread that calls OpenMP has a team of its own. */
#ifndef DDPM_THREADS_H
#define DDPM_THREADS_H
#include "base/err.h"

/* Processors this process may use: its affinity, or less where a control group has a quota of processor time. */
int threads_processors(void);
int threads_affinity(void); /* its affinity alone */

enum { THREADS_NOTE = 200 };
/* The number of threads where `wanted` were asked for (0: one a processor, or as many as can be started), and the
 * calling thread's team made that large.  note: "", or what the user should know.  DDPM_ENOMEM: as threads_use(). */
DDPM_MUST_CHECK ddpm_status threads_choose(int wanted, int *n, char note[THREADS_NOTE], err *e);

/* The calling thread's OpenMP regions have n >= 1 threads from now on.  Costs nothing where they have already.
 * DDPM_ENOMEM: so many cannot be started; says how many can. */
DDPM_MUST_CHECK ddpm_status threads_use(int n, err *e);

#endif
