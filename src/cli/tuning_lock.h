/* tuning_lock.h - processes that draw parts of one set choose algorithms by timing one after another, so that the choices
 * of the first, which it saves, are those of all. */
#ifndef DDPM_TUNING_LOCK_H
#define DDPM_TUNING_LOCK_H

/* Wait for the lock that belongs to an autotune cache, the file `cache`.LOCK; -1: there is none (no cache, no folder, a
 * file system without locks), and the processes may choose differently. */
int tuning_lock_take(const char *cache);
void tuning_lock_release(int lock); /* accepts -1 */

#endif
