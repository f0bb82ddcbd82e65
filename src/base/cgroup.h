/* cgroup.h - the memory and processor limits that control groups set for this process.
 *
 * Versions 1 and 2 are both read, for the process's own group and all its ancestors.  `root` is "", or for tests a
 * folder that contains proc and sys.  A controller that is not mounted or cannot be read counts as no limit. */
#ifndef DDPM_CGROUP_H
#define DDPM_CGROUP_H
#include <stdint.h>

/* Bytes that can still be allocated under the tightest of memory.max, memory.high and memory.limit_in_bytes, at least
 * 0; INT64_MAX if there is no limit.  Page cache that the kernel would drop (inactive_file) counts as free. */
int64_t cgroup_memory_left(const char *root);

/* The tightest of these memory limits, regardless of the memory in use; INT64_MAX if there is no limit. */
int64_t cgroup_memory_limit(const char *root);

/* The tightest CPU time quota as a number of processors, rounded up, at least 1; INT32_MAX if there is no quota. */
int cgroup_processors(const char *root);

#endif
