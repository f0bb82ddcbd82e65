/* threads.h - the number of OpenMP threads, and a check that they can be started.
 *
 * The OpenMP runtime aborts the process if it cannot start a thread, so the possible number is tested before.
 * Each thread that calls OpenMP has its own team. */
#ifndef DDPM_THREADS_H
#define DDPM_THREADS_H
#include "base/err.h"

/* Processors this process may use: those of its affinity mask, or fewer if a control group has a CPU time quota. */
int threads_processors(void);
int threads_affinity(void); /* processors of the affinity mask alone */

enum { THREADS_NOTE = 200 };
/* Choose the number of threads *n for `requested` threads (0: one per processor, or as many as can be started) and
 * give the calling thread's team that size.  note: "", or a remark for the user.  DDPM_ENOMEM: as threads_use(). */
DDPM_MUST_CHECK ddpm_status threads_choose(int requested, int *n, char note[THREADS_NOTE], err *e);

/* Run the calling thread's OpenMP regions with n >= 1 threads from now on.  Free if that is already their number.
 * DDPM_ENOMEM: n threads cannot be started; the message says how many can. */
DDPM_MUST_CHECK ddpm_status threads_use(int n, err *e);

#endif
