/* mem.h - host memory with overflow-checked sizes and a message when there is none. */
#ifndef DDPM_MEM_H
#define DDPM_MEM_H
#include "base/err.h"
#include <stddef.h>

enum { MEM_ALIGN = 64 }; /* bytes: a cache line, and the widest vector register */

/* `count * size` zeroed bytes into *out (NULL for none), aligned to MEM_ALIGN.
 * DDPM_ENOMEM names `what` and the size: also where the system would grant what machine_memory_left() has not.  Free
 * with mem_free(). */
DDPM_MUST_CHECK ddpm_status mem_array(void *out, size_t count, size_t size, const char *what, err *e);

/* As mem_array() of bytes, in huge pages where the system has them: fewer misses of the TLB in passes with long
 * strides.  For large memory that is used whole. */
DDPM_MUST_CHECK ddpm_status mem_pages(void **out, size_t bytes, const char *what, err *e);

/* Grow the array at *v to hold at least `need` elements, doubling *capacity.
 * On failure *v is unchanged.  Free with free(). */
DDPM_MUST_CHECK ddpm_status mem_grow(void *v, int *capacity, int need, size_t size, const char *what, err *e);

/* A copy of text; free with free(). */
DDPM_MUST_CHECK ddpm_status mem_text(char **out, const char *text, err *e);

void mem_free(void *p); /* takes NULL */

#endif
