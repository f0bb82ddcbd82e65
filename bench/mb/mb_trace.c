/* mb_trace.c - loads CUPTI at the first trace, so a program that does not trace runs without CUPTI. */
#include "mb_trace.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

void trace_free(trace *t)
{
    free(t->record);
    *t = (trace){.n = 0};
}

#ifndef MB_CUPTI
ddpm_status trace_begin(err *e) { return err_set(e, DDPM_EDEVICE, "built without cupti.h: no tracing"); }

ddpm_status trace_end(trace *out, err *e)
{
    *out = (trace){.n = 0};
    return err_set(e, DDPM_EDEVICE, "built without cupti.h: no tracing");
}
#else
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wstrict-prototypes"
#include <cupti.h>
#pragma GCC diagnostic pop
#include <dlfcn.h>

#if CUPTI_API_VERSION >= 130000
typedef CUpti_ActivityKernel10 kernel_record;
#else
typedef CUpti_ActivityKernel9 kernel_record;
#endif
typedef CUpti_ActivityMemcpy6 copy_record;

enum { BUFFER = 8 << 20, ALIGN = 8 };

static struct {
    __typeof__(&cuptiActivityEnable) enable, disable;
    __typeof__(&cuptiActivityRegisterCallbacks) callbacks;
    __typeof__(&cuptiActivityFlushAll) flush;
    __typeof__(&cuptiActivityGetNextRecord) next;
    __typeof__(&cuptiActivityGetNumDroppedRecords) dropped;
    __typeof__(&cuptiGetResultString) text;
} cupti;

/* Filled by CUPTI's thread; read after the flush, when that thread has delivered everything. */
static trace found;
static err trouble;

static void add(uint64_t begin, uint64_t end, const char *name)
{
    if (mem_grow(&found.record, &found.capacity, found.n + 1, sizeof *found.record, "trace", &trouble) != DDPM_OK)
        return;
    found.record[found.n++] = (trace_record){begin, end, name};
}

static void CUPTIAPI give_buffer(uint8_t **buffer, size_t *size, size_t *most_records)
{
    *buffer = aligned_alloc(ALIGN, BUFFER);
    *size = *buffer ? BUFFER : 0;
    *most_records = 0;
}

static void CUPTIAPI take_buffer(CUcontext context, uint32_t stream, uint8_t *buffer, size_t size, size_t valid)
{
    CUpti_Activity *r = NULL;
    size_t dropped = 0;
    while (valid && cupti.next(buffer, valid, &r) == CUPTI_SUCCESS) {
        if (r->kind == CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL || r->kind == CUPTI_ACTIVITY_KIND_KERNEL) {
            const kernel_record *k = (const kernel_record *)(const void *)r;
            add(k->start, k->end, k->name ? k->name : "kernel");
        } else if (r->kind == CUPTI_ACTIVITY_KIND_MEMCPY) {
            const copy_record *c = (const copy_record *)(const void *)r;
            add(c->start, c->end, "copy");
        }
    }
    if (cupti.dropped(context, stream, &dropped) == CUPTI_SUCCESS) found.dropped += dropped;
    free(buffer);
}

static void *library(void)
{
    static const char *const names[] = {"libcupti.so.13", "libcupti.so.12", "libcupti.so",
                                        "/usr/local/cuda/lib64/libcupti.so",
                                        "/usr/local/cuda/extras/CUPTI/lib64/libcupti.so"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *l = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
        if (l) return l;
    }
    return NULL;
}

static bool find(void *l, const char *name, void *pointer)
{
    void *f = dlsym(l, name);
    memcpy(pointer, &f, sizeof f);
    return f != NULL;
}

static ddpm_status load(err *e)
{
    static void *l;
    if (!l) l = library();
    if (!l) return err_set(e, DDPM_EDEVICE, "no libcupti here: no tracing");
    const bool all =
        find(l, "cuptiActivityEnable", &cupti.enable) && find(l, "cuptiActivityDisable", &cupti.disable) &&
        find(l, "cuptiActivityRegisterCallbacks", &cupti.callbacks) && find(l, "cuptiActivityFlushAll", &cupti.flush) &&
        find(l, "cuptiActivityGetNextRecord", &cupti.next) &&
        find(l, "cuptiActivityGetNumDroppedRecords", &cupti.dropped) && find(l, "cuptiGetResultString", &cupti.text);
    return all ? DDPM_OK : err_set(e, DDPM_EDEVICE, "libcupti lacks a function: no tracing");
}

static ddpm_status check(CUptiResult result, const char *what, err *e)
{
    const char *text = "unknown";
    if (result == CUPTI_SUCCESS) return DDPM_OK;
    (void)cupti.text(result, &text);
    return err_set(e, DDPM_EDEVICE, "CUPTI: %s: %s", what, text);
}

ddpm_status trace_begin(err *e)
{
    TRY(load(e));
    found = (trace){.n = 0};
    trouble = (err){.status = DDPM_OK};
    TRY(check(cupti.callbacks(give_buffer, take_buffer), "callbacks", e));
    TRY(check(cupti.enable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL), "kernels", e));
    return check(cupti.enable(CUPTI_ACTIVITY_KIND_MEMCPY), "copies", e);
}

static int by_begin(const void *a, const void *b)
{
    const trace_record *x = a, *y = b;
    return (x->begin > y->begin) - (x->begin < y->begin);
}

ddpm_status trace_end(trace *out, err *e)
{
    *out = (trace){.n = 0};
    TRY(check(cupti.flush(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED), "flush", e));
    TRY(check(cupti.disable(CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL), "kernels", e));
    TRY(check(cupti.disable(CUPTI_ACTIVITY_KIND_MEMCPY), "copies", e));
    if (trouble.status != DDPM_OK) return err_set(e, trouble.status, "%s", trouble.text);
    *out = found;
    found = (trace){.n = 0};
    if (out->n) qsort(out->record, (size_t)out->n, sizeof *out->record, by_begin);
    return DDPM_OK;
}
#endif
