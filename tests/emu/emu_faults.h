/* emu_faults.h - failures on purpose: the n-th call that can fail does.
 *
 * What counts is every rt_ call that can fail, every launch of a kernel, and every creation, selection
 * and run of a primitive or creation of a library's context; what a graph replays counts once, as the
 * launch of the graph. */
#ifndef DDPM_EMU_FAULTS_H
#define DDPM_EMU_FAULTS_H

namespace emu
{
/* Begin to count anew; call n (from 1) fails, 0: none. */
void fail_at(long n);
long calls(); /* counted since then */

/* Count a call of `name`: NULL, or what it must fail with. */
const char *failure_of(const char *name);
} // namespace emu

#endif
