/* failing_allocations.h - the C library's allocations that this library makes, defined in front of it so that the n-th of
 * them can fail.  For one source a program. */
#ifndef DDPM_TESTS_FAILING_ALLOCATIONS_H
#define DDPM_TESTS_FAILING_ALLOCATIONS_H
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

static long allocations_left; /* the allocation that brings it to 0 fails; 0: none does */

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ALLOCATIONS_NOT_IN_FRONT /* clang's sanitizer sits in the program itself */
#endif
#endif
#ifndef ALLOCATIONS_NOT_IN_FRONT
static bool allocation_fails(void) { return allocations_left > 0 && --allocations_left == 0; }

void *aligned_alloc(size_t alignment, size_t size)
{
    void *p = NULL;
    return allocation_fails() || posix_memalign(&p, alignment, size) ? NULL : p;
}

void *realloc(void *p, size_t size)
{
    static void *(*next)(void *, size_t);
    if (!next) *(void **)&next = dlsym(RTLD_NEXT, "realloc");
    return allocation_fails() ? (errno = ENOMEM, NULL) : next(p, size);
}
#endif

#endif
