#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/lib/cpu_layout.h"
#include "base/bytes.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/threads.h"

#include <stdio.h>
#include <string.h>

static const cpu_op *const ops[OP_COUNT] = {
#define OP(name, vjp, flops, flags) [OP_##name] = &cpu_##name,
#include "ir/ops.def"
#undef OP
};

static void destroy(backend *base)
{
    cpu_backend *be = (cpu_backend *)base;
    if (!be) return;
    conv_autotune_destroy(be->autotune);
    onednn_destroy(be->onednn);
    mem_free(be);
}

static void describe(const backend *base, char *text, size_t cap)
{
    char dnnl[80];
    onednn_describe(dnnl, sizeof dnnl);
    const int threads = ((const cpu_backend *)base)->threads;
    (void)snprintf(text, cap, "cpu: %d thread%s, %s", threads, threads == 1 ? "" : "s", dnnl);
}

void cpu_libraries(char *text, size_t cap) { onednn_describe(text, cap); }

/* Memory of a training beside the plan: code of the libraries, stacks of threads, the buffer for a checkpoint.
 * 29 MiB were measured in a run that used 500 MiB. */
enum { BESIDE = 32 << 20 };

static size_t memory_free(const backend *base)
{
    const size_t left = (size_t)machine_memory_left("");
    return left > BESIDE ? left - BESIDE : 1;
}

/* The system would grant more memory than exists and kill the process when it is used. */
static ddpm_status alloc(backend *base, size_t bytes, void **out, err *e)
{
    char needed[BYTES_CAP], free_now[BYTES_CAP];
    const size_t there = memory_free(base);
    *out = NULL;
    if (bytes > there)
        return err_set(e, DDPM_ENOMEM, "%s of memory are needed, but %s are free: use a smaller batch",
                       bytes_text(needed, bytes), bytes_text(free_now, there));
    return mem_pages(out, bytes, "cpu memory", e);
}

static void release(backend *base, void *memory) { mem_free(memory); }

static ddpm_status copy(backend *base, void *to, const void *from, size_t bytes, err *e)
{
    memcpy(to, from, bytes);
    return DDPM_OK;
}

static size_t tensor_bytes(const backend *base, const tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

static ddpm_status arrange(backend *base, step *const *steps, int n, err *e)
{
    if (onednn_has_blocked_kernels()) cpu_arrange(steps, n);
    return DDPM_OK;
}

static ddpm_status prepare(backend *base, step *s, size_t *scratch, err *e)
{
    *scratch = 0;
    if (!ops[s->op]->prepare) return DDPM_OK;
    /* oneDNN partitions sums by this number now, not in run() */
    TRY(threads_use(((const cpu_backend *)base)->threads, e));
    err why = {0};
    const ddpm_status st = ops[s->op]->prepare((cpu_backend *)base, s, scratch, &why);
    return st == DDPM_OK ? st : err_set(e, st, "%s (%s): %s", s->path, op_name[s->op], why.text);
}

static void unprepare(backend *base, step *s)
{
    if (s->impl && ops[s->op]->release) ops[s->op]->release(s);
}

static ddpm_status run(backend *base, step *const *steps, int n, int times, err *e)
{
    cpu_backend *be = (cpu_backend *)base;
    conv_autotune_save(be->autotune);
    TRY(threads_use(be->threads, e)); /* of the calling thread: other parts of the program may set other numbers */
    for (int iteration = 0; iteration < times; iteration++)
        for (int i = 0; i < n; i++) TRY(ops[steps[i]->op]->run(be, steps[i], e));
    return DDPM_OK;
}

static void report(const backend *base, FILE *to) { conv_autotune_report(((const cpu_backend *)base)->autotune, to); }

static const backend_table table = {
    .name = "cpu",
    .alignment = MEM_ALIGN,
    .destroy = destroy,
    .describe = describe,
    .alloc = alloc,
    .release = release,
    .upload = copy,
    .download = copy,
    .tensor_bytes = tensor_bytes,
    .arrange = arrange,
    .prepare = prepare,
    .unprepare = unprepare,
    .run = run,
    .memory_free = memory_free,
    .report = report,
    .host_memory = true,
};

ddpm_status cpu_create(const backend_spec *spec, backend **out, err *e)
{
    *out = NULL;
    if (spec->threads < 0)
        return err_set(e, DDPM_EINVAL, "threads=%d: must be at least 1, or 0 for all processors", spec->threads);
    if (spec->precision != PRECISION_AUTO && spec->precision != PRECISION_FP32)
        return err_set(e, DDPM_EINVAL,
                       "precision: the CPU backend supports only fp32; use auto or fp32, or device=cuda");
    cpu_backend *be = NULL;
    TRY(mem_array(&be, 1, sizeof *be, "cpu backend", e));
    be->base.fn = &table;
    be->base.two_sources = be->base.projections = be->base.recompute = true;
    be->base.time_mlp = INT64_MAX;
    ddpm_status st = threads_choose(spec->threads, &be->threads, be->told, e);
    if (st == DDPM_OK) st = onednn_create(&be->onednn, e);
    if (st == DDPM_OK) st = conv_autotune_create(spec, be->threads, &be->autotune, e);
    if (st != DDPM_OK) {
        destroy(&be->base);
        return st;
    }
    const size_t told = strlen(be->told);
    const char *trouble = conv_autotune_warning(be->autotune);
    if (trouble[0]) (void)snprintf(be->told + told, sizeof be->told - told, "%s%s", told ? "; " : "", trouble);
    if (be->told[0]) be->base.remark = be->told;
    *out = &be->base;
    return DDPM_OK;
}
