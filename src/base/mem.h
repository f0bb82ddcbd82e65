/* mem.h - host memory allocation with overflow-checked sizes and a message on failure. */
#ifndef DDPM_MEM_H
#define DDPM_MEM_H
#include "base/err.h"
#include <stddef.h>

enum { MEM_ALIGN = 64 }; /* bytes: a cache line, and the widest vector register */

/* Allocate `count * size` zeroed bytes into *out (NULL on failure), aligned to MEM_ALIGN; free with mem_free().
 * DDPM_ENOMEM names `what` and the size; it is also returned if a large array exceeds machine_memory_left() and the
 * system would overcommit. */
DDPM_MUST_CHECK ddpm_status mem_array(void *out, size_t count, size_t size, const char *what, err *e);

/* As mem_array() of bytes, in huge pages if the system has them: fewer TLB misses in passes with long strides.
 * For large buffers that are used entirely. */
DDPM_MUST_CHECK ddpm_status mem_pages(void **out, size_t bytes, const char *what, err *e);

/* Grow the array at *v to hold at least `need` elements, doubling *capacity.
 * On failure *v is unchanged.  Free with free(). */
DDPM_MUST_CHECK ddpm_status mem_grow(void *v, int *capacity, int need, size_t size, const char *what, err *e);

/* A copy of text; free with free(). */
DDPM_MUST_CHECK ddpm_status mem_text(char **out, const char *text, err *e);

void mem_free(void *p); /* accepts NULL */

#endif
