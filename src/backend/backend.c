#include "backend/backend.h"
#include "base/device_name.h"
#include "base/threads.h"

ddpm_status backend_create(const backend_spec *spec, backend **out, err *e)
{
    const device_kind kind = device_name_parse(spec->device).kind;
    *out = NULL;
    if (kind == DEVICE_UNKNOWN)
        return err_set(e, DDPM_EINVAL, "device=%s: unknown device; use auto, cpu, cuda or cuda:N", spec->device);
    err why = {0};
    if (kind == DEVICE_CPU || (kind == DEVICE_AUTO && !cuda_usable(spec, &why))) {
        backend_spec cpu = *spec;
        if (why.text[0]) cpu.precision = PRECISION_AUTO; /* that of the unused GPU may not exist on the CPU */
        TRY(cpu_create(&cpu, out, e));
        (*out)->unused_gpu = why;
        if (why.text[0]) (*out)->remark = (*out)->unused_gpu.text;
        return DDPM_OK;
    }
    char note[THREADS_NOTE]; /* ignored: with cuda these threads only decode images */
    int threads;
    TRY(threads_choose(spec->threads, &threads, note, e));
    return cuda_create(spec, out, e);
}

const char *backend_take_remark(backend *be)
{
    const char *remark = be->remark;
    be->remark = NULL;
    return remark;
}

void backend_libraries(const char *cuda_folder, char *text, size_t cap)
{
    char cpu[80], cuda[200];
    cpu_libraries(cpu, sizeof cpu);
    cuda_libraries(cuda_folder, cuda, sizeof cuda);
    (void)snprintf(text, cap, "cpu: %s\ncuda: %s", cpu, cuda);
}

void backend_destroy(backend *be)
{
    if (be) be->fn->destroy(be);
}
