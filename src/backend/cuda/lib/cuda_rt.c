#include "backend/cuda/lib/cuda_rt_call.h"
#include "base/bytes.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef CUDA_OLDEST
#define CUDA_OLDEST 80 /* the lowest compute capability that the kernels are built for (cmake/cuda.cmake) */
#endif

/* ---- errors ----------------------------------------------------------------------------------- */

ddpm_status rt_failed(const char *call, cudaError_t why, err *e)
{
    (void)cudaGetLastError();
    return err_set(e, why == cudaErrorMemoryAllocation ? DDPM_ENOMEM : DDPM_EBACKEND, "%s: %s", call,
                   cudaGetErrorString(why));
}

/* ---- the device ------------------------------------------------------------------------------- */

/* Does the process use the device already?  Since CUDA 12, cudaSetDevice() would create a context on it, which takes
 * hundreds of MiB.  True if the driver cannot be asked. */
static bool has_context(int device)
{
    typedef int get_state(int device, unsigned *flags, int *active); /* cuDevicePrimaryCtxGetState() */
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
    union {
        void *address;
        get_state *call;
    } state = {driver ? dlsym(driver, "cuDevicePrimaryCtxGetState") : NULL};
    unsigned flags;
    int active = 1;
    if (state.address && state.call(device, &flags, &active) != 0) active = 1;
    if (driver) (void)dlclose(driver);
    return active != 0;
}

int rt_use(int device)
{
    int current = -1;
    quietly(cudaGetDevice(&current));
    if (device >= 0 && device != current && has_context(device)) quietly(cudaSetDevice(device));
    return current;
}

static int attribute(enum cudaDeviceAttr what, int device)
{
    int value = 0;
    quietly(cudaDeviceGetAttribute(&value, what, device));
    return value;
}

static void version(int number, char text[24]) /* 13010: "13.1" */
{
    (void)snprintf(text, 24, "%d.%d", number / 1000, number % 1000 / 10);
}

/* The error message where no device is available. */
static ddpm_status no_devices(const char *name, cudaError_t why, const rt_info *info, err *e)
{
    char has[24], needs[24];
    (void)cudaGetLastError();
    version(info->driver, has);
    version(info->runtime, needs);
    if (info->driver == 0 || why == cudaErrorStubLibrary)
        return err_set(e, DDPM_EDEVICE,
                       "%s: no NVIDIA driver on this machine (libcuda.so.1): install it or use device=cpu", name);
    if (why == cudaErrorInsufficientDriver)
        return err_set(
            e, DDPM_EDEVICE,
            "%s: the NVIDIA driver supports CUDA %s, but this build requires %s: install a newer driver, build "
            "with an older CUDA, or use device=cpu",
            name, has, needs);
    if (why != cudaErrorNoDevice)
        return err_set(e, DDPM_EDEVICE, "%s: the NVIDIA driver fails: %s; repair the driver or use device=cpu", name,
                       cudaGetErrorString(why));
    return DDPM_OK;
}

static ddpm_status no_such_device(const char *name, const rt_info *info, err *e)
{
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    char count[60] = "there is no device";
    if (info->count == 1) (void)snprintf(count, sizeof count, "there is one device, cuda:0");
    if (info->count > 1)
        (void)snprintf(count, sizeof count, "there are %d devices, cuda:0 to cuda:%d", info->count, info->count - 1);
    return err_set(e, DDPM_EDEVICE, "%s: no such device: %s (CUDA_VISIBLE_DEVICES is %s%.60s); use %sdevice=cpu", name,
                   count, visible ? "" : "not set", visible ? (visible[0] ? visible : "empty") : "",
                   info->count ? "one of these or " : "");
}

/* The properties that can be read without creating a context on the device. */
static ddpm_status look(int index, rt_info *info, err *e)
{
    char name[24] = "device=cuda", has[24], needs[24];
    if (index >= 0) (void)snprintf(name, sizeof name, "device=cuda:%d", index);
    *info = (rt_info){.index = index < 0 ? 0 : index};
    quietly(cudaDriverGetVersion(&info->driver));
    quietly(cudaRuntimeGetVersion(&info->runtime));
    const cudaError_t why = cudaGetDeviceCount(&info->count);
    if (why != cudaSuccess) {
        info->count = 0;
        TRY(no_devices(name, why, info, e));
    }
    if (info->index >= info->count) return no_such_device(name, info, e);
    info->major = attribute(cudaDevAttrComputeCapabilityMajor, info->index);
    info->minor = attribute(cudaDevAttrComputeCapabilityMinor, info->index);
    if (10 * info->major + info->minor >= CUDA_OLDEST) return DDPM_OK;
    (void)snprintf(has, sizeof has, "%d.%d", info->major, info->minor);
    (void)snprintf(needs, sizeof needs, "%d.%d", CUDA_OLDEST / 10, CUDA_OLDEST % 10);
    return err_set(e, DDPM_EDEVICE,
                   "%s: the compute capability is %s, but this build requires %s or newer: use another device "
                   "or device=cpu",
                   name, has, needs);
}

static ddpm_status read_properties(rt_info *info, err *e)
{
    struct cudaDeviceProp properties;
    CALL(cudaGetDeviceProperties, &properties, info->index);
    (void)snprintf(info->name, sizeof info->name, "%.79s", properties.name);
    info->total = properties.totalGlobalMem;
    return DDPM_OK;
}

static ddpm_status take(rt_info *info, err *e)
{
    CALL(cudaSetDevice, info->index);
    CALL(cudaFree, NULL); /* creates the context, so a busy or broken device fails here */
    TRY(read_properties(info, e));
    CALL(cudaDeviceGetPCIBusId, info->pci, (int)sizeof info->pci, info->index);
    info->sms = attribute(cudaDevAttrMultiProcessorCount, info->index);
    info->l2 = (size_t)attribute(cudaDevAttrL2CacheSize, info->index);
    info->shared = (size_t)attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, info->index);
    info->loops = HAVE_LOOPS && info->driver >= 12040;
    return DDPM_OK;
}

ddpm_status rt_open(int index, rt_info *info, err *e)
{
    err why = {0};
    TRY(look(index, info, e));
    if (take(info, &why) != DDPM_OK) /* busy, broken, or its memory is full */
        return err_set(e, DDPM_EDEVICE, "device=cuda:%d: %s", info->index, why.text);
    return DDPM_OK;
}

ddpm_status rt_look(int index, rt_info *info, err *e)
{
    err why = {0};
    TRY(look(index, info, e));
    if (read_properties(info, &why) == DDPM_OK) return DDPM_OK;
    return err_set(e, DDPM_EDEVICE, "device=cuda:%d: %s", info->index, why.text);
}

int rt_runtime(void)
{
    int runtime = 0;
    quietly(cudaRuntimeGetVersion(&runtime));
    return runtime;
}

bool rt_present(void)
{
    rt_info info;
    return look(-1, &info, NULL) == DDPM_OK;
}

/* ---- memory ----------------------------------------------------------------------------------- */

size_t rt_memory_free(void)
{
    size_t unused = 0, total = 0;
    if (cudaMemGetInfo(&unused, &total) == cudaSuccess) return unused;
    (void)cudaGetLastError();
    return 0;
}

static ddpm_status zeroed(void *memory, size_t bytes, err *e)
{
    CALL(cudaMemset, memory, 0, bytes);
    CALL(cudaStreamSynchronize, NULL); /* our streams do not wait for the default stream */
    return DDPM_OK;
}

ddpm_status rt_alloc(size_t bytes, void **out, err *e)
{
    char needed[BYTES_CAP], free_now[BYTES_CAP];
    *out = NULL;
    if (bytes == 0) return DDPM_OK;
    void *memory = NULL;
    const cudaError_t why = cudaMalloc(&memory, bytes);
    if (why == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return err_set(e, DDPM_ENOMEM, "%s of device memory are needed, but %s are free: use a smaller batch",
                       bytes_text(needed, bytes), bytes_text(free_now, rt_memory_free()));
    }
    if (why != cudaSuccess) return rt_failed("cudaMalloc", why, e);
    const ddpm_status st = zeroed(memory, bytes, e);
    if (st == DDPM_OK)
        *out = memory;
    else
        quietly(cudaFree(memory));
    return st;
}

void rt_free(void *memory)
{
    if (memory) quietly(cudaFree(memory));
}

ddpm_status rt_alloc_host(size_t bytes, void **out, err *e)
{
    *out = NULL;
    if (bytes == 0) return DDPM_OK;
    void *memory = NULL;
    CALL(cudaHostAlloc, &memory, bytes, cudaHostAllocPortable); /* pinned for every device */
    *out = memset(memory, 0, bytes);
    return DDPM_OK;
}

void rt_free_host(void *memory)
{
    if (memory) quietly(cudaFreeHost(memory));
}

/* ---- streams and events ----------------------------------------------------------------------- */

ddpm_status rt_stream_create(bool urgent, void **out, err *e)
{
    int least = 0, greatest = 0;
    cudaStream_t stream = NULL;
    *out = NULL;
    CALL(cudaDeviceGetStreamPriorityRange, &least, &greatest);
    CALL(cudaStreamCreateWithPriority, &stream, cudaStreamNonBlocking, urgent ? greatest : least);
    *out = stream;
    return DDPM_OK;
}

void rt_stream_destroy(void *stream)
{
    if (stream) quietly(cudaStreamDestroy(stream));
}

ddpm_status rt_sync(void *stream, err *e)
{
    CALL(cudaStreamSynchronize, stream);
    return DDPM_OK;
}

ddpm_status rt_event_create(bool timed, void **out, err *e)
{
    cudaEvent_t event = NULL;
    *out = NULL;
    CALL(cudaEventCreateWithFlags, &event, timed ? cudaEventDefault : cudaEventDisableTiming);
    *out = event;
    return DDPM_OK;
}

void rt_event_destroy(void *event)
{
    if (event) quietly(cudaEventDestroy(event));
}

ddpm_status rt_event_record(void *event, void *stream, err *e)
{
    CALL(cudaEventRecord, event, stream);
    return DDPM_OK;
}

ddpm_status rt_event_sync(void *event, err *e)
{
    CALL(cudaEventSynchronize, event);
    return DDPM_OK;
}

ddpm_status rt_stream_wait(void *stream, void *event, err *e)
{
    CALL(cudaStreamWaitEvent, stream, event, 0);
    return DDPM_OK;
}

ddpm_status rt_event_ms(void *from, void *to, float *ms, err *e)
{
    CALL(cudaEventSynchronize, to);
    CALL(cudaEventElapsedTime, ms, from, to);
    return DDPM_OK;
}

/* ---- work ------------------------------------------------------------------------------------- */

ddpm_status rt_upload(void *to, const void *from_host, size_t bytes, void *stream, err *e)
{
    if (bytes) CALL(cudaMemcpyAsync, to, from_host, bytes, cudaMemcpyHostToDevice, stream);
    return DDPM_OK;
}

ddpm_status rt_download(void *to_host, const void *from, size_t bytes, void *stream, err *e)
{
    if (bytes) CALL(cudaMemcpyAsync, to_host, from, bytes, cudaMemcpyDeviceToHost, stream);
    return DDPM_OK;
}

ddpm_status rt_copy(void *to, const void *from, size_t bytes, void *stream, err *e)
{
    if (bytes) CALL(cudaMemcpyAsync, to, from, bytes, cudaMemcpyDeviceToDevice, stream);
    return DDPM_OK;
}

ddpm_status rt_zero(void *at, size_t bytes, void *stream, err *e)
{
    if (bytes) CALL(cudaMemsetAsync, at, 0, bytes, stream);
    return DDPM_OK;
}

ddpm_status rt_launched(ddpm_status launch, err *e)
{
    const cudaError_t why = cudaGetLastError();
    if (why != cudaSuccess) return rt_failed("kernel launch", why, e);
    return launch == DDPM_OK ? DDPM_OK : err_set(e, launch, "kernel launch: invalid arguments");
}
