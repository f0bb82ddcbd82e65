#include "base/mem.h"
#include "base/process.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE = 64 << 20 }; /* bytes from which free memory is checked */

/* Linux overcommits: it would grant more memory than is free, and kill the process when the memory is used. */
static ddpm_status check_there(size_t bytes, const char *what, err *e)
{
    if (bytes < LARGE) return DDPM_OK;
    const size_t there = (size_t)machine_memory_left("");
    if (bytes <= there) return DDPM_OK;
    return err_set(e, DDPM_ENOMEM, "%s: out of memory (%zu MiB needed, %zu MiB free)", what, bytes >> 20, there >> 20);
}

ddpm_status mem_array(void *out, size_t count, size_t size, const char *what, err *e)
{
    void **slot = out;
    size_t bytes;
    *slot = NULL;
    if (__builtin_mul_overflow(count, size, &bytes) || bytes > PTRDIFF_MAX - MEM_ALIGN)
        return err_set(e, DDPM_ENOMEM, "%s: %zu x %zu bytes is more than can be addressed", what, count, size);
    bytes = (bytes + MEM_ALIGN) / MEM_ALIGN * MEM_ALIGN; /* never 0; vector loads may read past the end */
    TRY(check_there(bytes, what, e));
    void *p = aligned_alloc(MEM_ALIGN, bytes);
    if (!p) return err_set(e, DDPM_ENOMEM, "%s: out of memory (%zu bytes)", what, bytes);
    memset(p, 0, bytes);
    *slot = p;
    return DDPM_OK;
}

ddpm_status mem_pages(void **out, size_t bytes, const char *what, err *e)
{
    enum { HUGE_PAGE = 2 << 20 };
    if (bytes < 2 * HUGE_PAGE) return mem_array(out, bytes, 1, what, e);
    *out = NULL;
    if (bytes > PTRDIFF_MAX - HUGE_PAGE)
        return err_set(e, DDPM_ENOMEM, "%s: %zu bytes is more than can be addressed", what, bytes);
    TRY(check_there(bytes, what, e));
    void *p = aligned_alloc(HUGE_PAGE, (bytes + HUGE_PAGE) / HUGE_PAGE * HUGE_PAGE);
    if (!p) return err_set(e, DDPM_ENOMEM, "%s: out of memory (%zu bytes)", what, bytes);
    (void)madvise(p, bytes, MADV_HUGEPAGE); /* a hint: without huge pages small ones are used */
    memset(p, 0, bytes);
    *out = p;
    return DDPM_OK;
}

ddpm_status mem_grow(void *v, int *capacity, int need, size_t size, const char *what, err *e)
{
    void **slot = v;
    if (need <= *capacity) return DDPM_OK;
    int cap = *capacity > 0 ? *capacity : 8;
    while (cap < need) {
        if (cap > INT32_MAX / 2) return err_set(e, DDPM_ENOMEM, "%s: too many (%d)", what, need);
        cap *= 2;
    }
    TRY(check_there((size_t)cap * size, what, e));
    void *p = realloc(*slot, (size_t)cap * size);
    if (!p) return err_set(e, DDPM_ENOMEM, "%s: out of memory (%d of %zu bytes)", what, cap, size);
    *slot = p;
    *capacity = cap;
    return DDPM_OK;
}

ddpm_status mem_text(char **out, const char *text, err *e)
{
    *out = strdup(text);
    if (!*out) return err_set(e, DDPM_ENOMEM, "out of memory for a text of %zu bytes", strlen(text));
    return DDPM_OK;
}

void mem_free(void *p) { free(p); }
