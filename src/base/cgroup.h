/* cgroup.h - what the control groups that this process is in leave it of the machine.
 *
 * Both versions are read, each at the process's own group and at every one around it.  `root` is "", or a folder in
 * which proc and sys lie, for tests.  What is not mounted or cannot be read limits nothing. */
#ifndef DDPM_CGROUP_H
#define DDPM_CGROUP_H
#include <stdint.h>

/* Bytes that can still be taken below the narrowest of memory.max, memory.high and memory.limit_in_bytes, at least 0;
 * INT64_MAX where there is no limit.  Pages of files that the kernel would drop (inactive_file) count as free. */
int64_t cgroup_memory_left(const char *root);

/* The narrowest of those limits, however much of it is taken; INT64_MAX where there is none. */
int64_t cgroup_memory_limit(const char *root);

/* Processors that the narrowest quota of processor time is worth, rounded up, at least 1; INT32_MAX: no quota. */
int cgroup_processors(const char *root);

#endif
