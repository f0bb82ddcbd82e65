#include "backend/backend.h"
#include "base/threads.h"

#include <string.h>

ddpm_status backend_create(const backend_spec *spec, backend **out, err *e)
{
    const bool any = !strcmp(spec->device, "auto");
    *out = NULL;
    if (!strncmp(spec->device, "cuda", 4) || (any && cuda_present())) {
        char note[THREADS_NOTE]; /* what decodes images is no news */
        int threads;
        TRY(threads_choose(spec->threads, &threads, note, e));
        return cuda_create(spec, out, e);
    }
    if (any || !strcmp(spec->device, "cpu")) return cpu_create(spec, out, e);
    return err_set(e, DDPM_EINVAL, "device=%s: unknown device; use auto, cpu, cuda or cuda:N", spec->device);
}

void backend_libraries(char *text, size_t cap)
{
    char libraries[80];
    cpu_libraries(libraries, sizeof libraries);
    (void)snprintf(text, cap, "cpu: %s", libraries);
}

void backend_destroy(backend *be)
{
    if (be) be->fn->destroy(be);
}
