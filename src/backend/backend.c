#include "backend/backend.h"

#include <string.h>

ddpm_status backend_create(const backend_spec *spec, backend **out, err *e)
{
    *out = NULL;
    if (!strcmp(spec->device, "auto") || !strcmp(spec->device, "cpu")) return cpu_create(spec, out, e);
    if (!strncmp(spec->device, "cuda", 4))
        return err_set(e, DDPM_EDEVICE, "device=%s: this build has no cuda backend; use device=cpu", spec->device);
    return err_set(e, DDPM_EINVAL, "device=%s: unknown device; use auto or cpu", spec->device);
}

void backend_destroy(backend *be)
{
    if (be) be->fn->destroy(be);
}
