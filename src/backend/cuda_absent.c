/* cuda_absent.c - replaces backend/cuda in builds without CUDA. */
#include "backend/backend.h"

ddpm_status cuda_create(const backend_spec *spec, backend **out, err *e)
{
    *out = NULL;
    return err_set(e, DDPM_EDEVICE,
                   "device=%s: this build has no CUDA backend (it was compiled without the CUDA toolkit or cuDNN): use "
                   "device=cpu",
                   spec->device);
}

bool cuda_present(void) { return false; }

bool cuda_usable(const backend_spec *spec, err *why)
{
    why->text[0] = '\0';
    return false;
}
bool cuda_is_built(void) { return false; }

void cuda_libraries(const char *folder, char *text, size_t cap) { (void)snprintf(text, cap, "not in this build"); }

ddpm_status cuda_look(int index, char *text, size_t cap, int *count, err *e)
{
    if (cap) text[0] = '\0';
    *count = 0;
    return err_set(e, DDPM_EDEVICE,
                   "this build has no CUDA backend: install the CUDA toolkit, 12.0 or newer, and cuDNN 9, and build "
                   "again with -DCUDA=ON, which reports missing packages");
}
