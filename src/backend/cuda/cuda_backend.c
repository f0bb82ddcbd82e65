#include "backend/cuda/cuda_op.h"
#include "backend/cuda/cuda_run.h"
#include "base/device_name.h"
#include "base/mem.h"
#include "pointwise.h"
#include "time_mlp.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN = 256 };                   /* bytes: libraries require this of a workspace, cudaMalloc provides it */
static const double WARM_SECONDS = 0.1; /* clocks of an idle GPU rise within some tens of milliseconds */
static const size_t WORKSPACE_CAP = (size_t)256 << 20; /* largest workspace in bytes that an engine or algo may use */

/* After a device failure nothing in device memory can be trusted: every later call returns the same error. */
static ddpm_status keep_failure(cuda_backend *be, ddpm_status st, err *why, err *e)
{
    if (st == DDPM_EBACKEND && be->dead.status == DDPM_OK) be->dead = *why;
    return st == DDPM_OK ? st : err_set(e, st, "%s", why->text);
}

static ddpm_status alive(const cuda_backend *be, err *e)
{
    if (be->dead.status != DDPM_OK) return err_set(e, be->dead.status, "%s", be->dead.text);
    if (rt_use(-1) == be->device.index) return DDPM_OK;
    return err_set(e, DDPM_EBACKEND, "cuda:%d: the device cannot be made the current one", be->device.index);
}

static void destroy(backend *base)
{
    cuda_backend *be = (cuda_backend *)base;
    err ignored = {0};
    if (!be) return;
    const ddpm_status idle = be->main_stream ? rt_sync(be->main_stream, &ignored) : DDPM_OK;
    (void)idle; /* no kernel may still use the memory that is freed now */
    cuda_forget_graphs(be, NULL);
    tuner_destroy(be->tuner);
    cublas_context_destroy(be->cublas);
    cudnn_context_destroy(be->cudnn);
    cuda_staging_destroy(be);
    rt_event_destroy(be->before);
    for (int i = 0; i < SIDE_WINDOW; i++) rt_event_destroy(be->after[i]);
    rt_stream_destroy(be->side_stream);
    rt_stream_destroy(be->main_stream);
    rt_free(be->count);
    mem_free(be);
}

static const char *precision_name(const cuda_backend *be)
{
    return be->base.act == DTYPE_BF16 ? "bf16" : be->tf32 ? "tf32" : "fp32";
}

static void libraries_of(int runtime, char *text, size_t cap)
{
    char cudnn[80], cublas[80];
    cudnn_context_describe(NULL, cudnn);
    cublas_context_describe(NULL, cublas);
    (void)snprintf(text, cap, "CUDA %d.%d, %s, %s", runtime / 1000, runtime % 1000 / 10, cudnn, cublas);
}

static void libraries(const cuda_backend *be, char text[LIBRARIES_TEXT])
{
    char with[LIBRARIES_TEXT - 40];
    libraries_of(be->device.runtime, with, sizeof with);
    (void)snprintf(text, LIBRARIES_TEXT, "driver %d.%d, %s", be->device.driver / 1000, be->device.driver % 1000 / 10,
                   with);
}

ddpm_status cuda_look(int index, char *text, size_t cap, int *count, err *e)
{
    rt_info at = {.count = 0};
    const ddpm_status st = rt_look(index, &at, e);
    if (cap) text[0] = '\0';
    *count = at.count;
    TRY(st);
    (void)snprintf(text, cap, "cuda:%d %s (%d.%d), %.1f GiB, driver %d.%d", at.index, at.name, at.major, at.minor,
                   bytes_to_gib(at.total), at.driver / 1000, at.driver % 1000 / 10);
    return DDPM_OK;
}

static void describe(const backend *base, char *text, size_t cap)
{
    const cuda_backend *be = (const cuda_backend *)base;
    char with[LIBRARIES_TEXT];
    libraries(be, with);
    (void)snprintf(text, cap, "cuda:%d %s (%d.%d), %s, %s, %.1f of %.1f GiB free%s", be->device.index, be->device.name,
                   be->device.major, be->device.minor, with, precision_name(be), bytes_to_gib(rt_memory_free()),
                   bytes_to_gib(be->device.total), be->device.loops ? "" : ", no loops in graphs (needs CUDA 12.4)");
}

static ddpm_status alloc(backend *base, size_t bytes, void **out, err *e)
{
    TRY(alive((cuda_backend *)base, e));
    return rt_alloc(bytes, out, e);
}

static void release(backend *base, void *memory) { rt_free(memory); }

static ddpm_status upload(backend *base, void *to, const void *from_host, size_t bytes, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    err why = {0};
    TRY(alive(be, e));
    return keep_failure(be, cuda_stage_upload(be, to, from_host, bytes, &why), &why, e);
}

static ddpm_status download_now(cuda_backend *be, void *to_host, const void *from, size_t bytes, err *e)
{
    TRY(rt_download(to_host, from, bytes, be->main_stream, e));
    return rt_sync(be->main_stream, e);
}

static ddpm_status download(backend *base, void *to_host, const void *from, size_t bytes, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    err why = {0};
    TRY(alive(be, e));
    return keep_failure(be, download_now(be, to_host, from, bytes, &why), &why, e);
}

static size_t tensor_bytes(const backend *base, const tensor *t)
{
    return (size_t)tensor_count(t) * dtype_size(t->dtype);
}

static ddpm_status prepare(backend *base, step *s, size_t *scratch, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    TRY(alive(be, e));
    const bool warned = tuner_warning(be->tuner)[0];
    const ddpm_status st = cuda_op_prepare(be, s, scratch, e);
    if (!warned && tuner_warning(be->tuner)[0]) be->base.remark = tuner_warning(be->tuner);
    return st;
}

static void unprepare(backend *base, step *s)
{
    cuda_forget_graphs((cuda_backend *)base, s);
    cuda_op_release(s);
}

static ddpm_status run(backend *base, step *const *steps, int n, int times, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    err why = {0};
    TRY(alive(be, e));
    tuner_save(be->tuner);
    return keep_failure(be, cuda_run_steps(be, steps, n, times, &why), &why, e);
}

static ddpm_status convert_weights(backend *base, void *low, const float *weights, size_t count, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    const pointwise_args a = {.kind = POINT_KIND_COPY,
                              .x = weights,
                              .y = low,
                              .x_type = STORE_F32,
                              .y_type = STORE_BF16,
                              .count = (int64_t)count};
    err why = {0};
    TRY(alive(be, e));
    if (count == 0) return DDPM_OK;
    return keep_failure(be, rt_launched(k_pointwise(be->main_stream, &a), &why), &why, e);
}

static size_t memory_free(const backend *base) { return rt_memory_free(); }

static void report(const backend *base, FILE *to) { tuner_report(((const cuda_backend *)base)->tuner, to); }

static ddpm_status wait_for_all(backend *base, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    err why = {0};
    TRY(alive(be, e));
    return keep_failure(be, rt_sync(be->main_stream, &why), &why, e);
}

static ddpm_status event_record(backend *base, void **event, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    err why = {0};
    TRY(alive(be, e));
    if (!*event) TRY(rt_event_create(true, event, e));
    return keep_failure(be, rt_event_record(*event, be->main_stream, &why), &why, e);
}

static ddpm_status event_elapsed_ms(backend *base, void *from, void *to, double *ms, err *e)
{
    cuda_backend *be = (cuda_backend *)base;
    float between = 0;
    err why = {0};
    TRY(alive(be, e));
    const ddpm_status st = rt_event_ms(from, to, &between, &why);
    *ms = (double)between;
    return keep_failure(be, st, &why, e);
}

static void event_free(backend *base, void *event) { rt_event_destroy(event); }

/* ---- the table ---- */

/* Every function of the table runs with the backend's device as CUDA's current one, and restores the caller's: several
 * backends may be used by one thread, and an embedding program may have a device of its own. */
static int enter(const backend *be) { return rt_use(be ? ((const cuda_backend *)be)->device.index : -1); }

#define ON_DEVICE(result, name, parameters, arguments)                                                                 \
    static result name##_on_device parameters                                                                          \
    {                                                                                                                  \
        const int caller = enter(base);                                                                                \
        const result out_ = name arguments;                                                                            \
        (void)rt_use(caller);                                                                                          \
        return out_;                                                                                                   \
    }
#define ON_DEVICE_VOID(name, parameters, arguments)                                                                    \
    static void name##_on_device parameters                                                                            \
    {                                                                                                                  \
        const int caller = enter(base);                                                                                \
        name arguments;                                                                                                \
        (void)rt_use(caller);                                                                                          \
    }

ON_DEVICE_VOID(destroy, (backend * base), (base))
ON_DEVICE_VOID(describe, (const backend *base, char *text, size_t cap), (base, text, cap))
ON_DEVICE(ddpm_status, alloc, (backend * base, size_t bytes, void **out, err *e), (base, bytes, out, e))
ON_DEVICE_VOID(release, (backend * base, void *memory), (base, memory))
ON_DEVICE(ddpm_status, upload, (backend * base, void *to, const void *from_host, size_t bytes, err *e),
          (base, to, from_host, bytes, e))
ON_DEVICE(ddpm_status, download, (backend * base, void *to_host, const void *from, size_t bytes, err *e),
          (base, to_host, from, bytes, e))
ON_DEVICE(ddpm_status, prepare, (backend * base, step *s, size_t *scratch, err *e), (base, s, scratch, e))
ON_DEVICE_VOID(unprepare, (backend * base, step *s), (base, s))
ON_DEVICE(ddpm_status, run, (backend * base, step *const *steps, int n, int times, err *e), (base, steps, n, times, e))
ON_DEVICE(ddpm_status, convert_weights, (backend * base, void *low, const float *weights, size_t count, err *e),
          (base, low, weights, count, e))
ON_DEVICE(size_t, memory_free, (const backend *base), (base))
ON_DEVICE(ddpm_status, wait_for_all, (backend * base, err *e), (base, e))
ON_DEVICE(ddpm_status, event_record, (backend * base, void **event, err *e), (base, event, e))
ON_DEVICE(ddpm_status, event_elapsed_ms, (backend * base, void *from, void *to, double *ms, err *e),
          (base, from, to, ms, e))
ON_DEVICE_VOID(event_free, (backend * base, void *event), (base, event))

static const backend_table table = {
    .name = "cuda",
    .alignment = ALIGN,
    .destroy = destroy_on_device,
    .describe = describe_on_device,
    .alloc = alloc_on_device,
    .release = release_on_device,
    .upload = upload_on_device,
    .download = download_on_device,
    .tensor_bytes = tensor_bytes,
    .prepare = prepare_on_device,
    .unprepare = unprepare_on_device,
    .run = run_on_device,
    .convert_weights = convert_weights_on_device,
    .memory_free = memory_free_on_device,
    .report = report,
    .wait = wait_for_all_on_device,
    .event_record = event_record_on_device,
    .event_elapsed_ms = event_elapsed_ms_on_device,
    .event_free = event_free_on_device,
};

/* "auto", "cuda": -1; "cuda:2": 2 */
static ddpm_status device_index(const char *device, int *index, err *e)
{
    const device_name name = device_name_parse(device);
    *index = name.kind == DEVICE_CUDA ? name.index : DEVICE_ANY;
    if (!device_name_is_valid(device))
        return err_set(e, DDPM_EINVAL, "device=%s: use auto, cpu, cuda or cuda:N with a number from 0", device);
    return DDPM_OK;
}

static ddpm_status open_streams(cuda_backend *be, err *e)
{
    TRY(rt_stream_create(true, &be->main_stream, e));
    TRY(rt_stream_create(false, &be->side_stream, e));
    TRY(rt_event_create(false, &be->before, e));
    for (int i = 0; i < SIDE_WINDOW; i++) TRY(rt_event_create(false, &be->after[i], e));
    void *count = NULL;
    TRY(rt_alloc(sizeof *be->count, &count, e));
    be->count = count;
    be->stream = be->main_stream;
    return DDPM_OK;
}

static ddpm_status load_libraries(const backend_spec *spec, err *e)
{
    err ignored = {0};
    TRY(cuda_library_load(CUDA_LIBRARY_CUDNN, spec->cuda_libraries, e));
    TRY(cuda_library_load(CUDA_LIBRARY_CUBLASLT, spec->cuda_libraries, e));
    /* Without NVRTC, cuDNN has its precompiled engines: fused attention is missing. */
    const ddpm_status compiler = cuda_library_load(CUDA_LIBRARY_NVRTC, spec->cuda_libraries, &ignored);
    (void)compiler;
    return DDPM_OK;
}

static ddpm_status open_libraries(cuda_backend *be, const backend_spec *spec, err *e)
{
    char with[LIBRARIES_TEXT];
    TRY(cudnn_context_create(NULL, &be->cudnn, e));
    TRY(cublas_context_create(&be->cublas, e));
    libraries(be, with);
    (void)snprintf(be->machine, sizeof be->machine, "%s (%d.%d), %s", be->device.name, be->device.major,
                   be->device.minor, with);
    be->base.machine = be->machine;
    return tuner_create(&(tuner_spec){.file = spec->autotune_cache,
                                      .shared = spec->shared_autotune_cache,
                                      .warm_seconds = WARM_SECONDS,
                                      .machine = be->machine,
                                      .stream = be->main_stream,
                                      .l2 = be->device.l2,
                                      .deterministic = !spec->nondeterministic,
                                      .eager = cuda_disabled(be, CUDA_OPT_GRAPH),
                                      .untimed = cuda_disabled(be, CUDA_OPT_TUNING),
                                      .workspace_cap = WORKSPACE_CAP},
                        &be->tuner, e);
}

ddpm_status cuda_create(const backend_spec *spec, backend **out, err *e)
{
    cuda_backend *be = NULL;
    int index;
    const int caller = rt_use(-1);
    ddpm_status st = DDPM_OK;
    *out = NULL;
    TRY_GOTO(device_index(spec->device, &index, e));
    TRY_GOTO(mem_array(&be, 1, sizeof *be, "cuda backend", e));
    be->base.fn = &table;
    be->base.act = spec->precision == PRECISION_AUTO || spec->precision == PRECISION_BF16 ? DTYPE_BF16 : DTYPE_F32;
    be->base.bias_sums = !(spec->disabled & CUDA_OPT_BIAS_SUMS);
    be->base.two_sources = !(spec->disabled & CUDA_OPT_CONCAT);
    be->base.projections = !(spec->disabled & CUDA_OPT_PROJECTIONS);
    be->base.time_mlp = spec->disabled & CUDA_OPT_TIME_MLP ? 0 : TIME_MLP_WIDEST;
    be->base.folds = !(spec->disabled & CUDA_OPT_UPCONV);
    be->tf32 = spec->precision == PRECISION_TF32;
    be->disabled = spec->disabled;
    TRY_GOTO(rt_open(index, &be->device, e));
    TRY_GOTO(load_libraries(spec, e));
    TRY_GOTO(open_streams(be, e));
    TRY_GOTO(open_libraries(be, spec, e));
    if (tuner_warning(be->tuner)[0]) be->base.remark = tuner_warning(be->tuner);
    *out = &be->base;
    be = NULL;
done:
    if (be) destroy(&be->base);
    (void)rt_use(caller);
    return st;
}

void cuda_libraries(const char *folder, char *text, size_t cap)
{
    err ignored = {0};
    const ddpm_status st = load_libraries(&(backend_spec){.cuda_libraries = folder}, &ignored);
    (void)st; /* the text says which library was not found */
    libraries_of(rt_runtime(), text, cap);
}

bool cuda_present(void) { return rt_present(); }

bool cuda_usable(const backend_spec *spec, err *why)
{
    err e = {0};
    why->text[0] = '\0';
    if (!rt_present()) return false;
    const ddpm_status st = load_libraries(spec, &e);
    if (st != DDPM_OK) (void)err_set(why, st, "the GPU of this machine is not used: %s", e.text);
    return st == DDPM_OK;
}

bool cuda_is_built(void) { return true; }
