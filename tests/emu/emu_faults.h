/* emu_faults.h - injected failures: the n-th call that can fail does.
 *
 * Counted are all rt_ calls that can fail, all kernel launches, every creation, selection and run of a primitive, and
 * every creation of a library context.  The work that a graph replays is not counted; the launch of the graph is. */
#ifndef DDPM_EMU_FAULTS_H
#define DDPM_EMU_FAULTS_H

namespace emu
{
/* Restarts the count; call n, counted from 1, fails; 0: none. */
void fail_at(long n);
long calls(); /* calls counted since fail_at() */

/* Counts a call of `name`; returns NULL, or the message with which the call must fail. */
const char *failure_of(const char *name);
} // namespace emu

#endif
