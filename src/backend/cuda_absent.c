/* cuda_absent.c - what stands in for backend/cuda in a build without it. */
#include "backend/backend.h"

ddpm_status cuda_create(const backend_spec *spec, backend **out, err *e)
{
    *out = NULL;
    return err_set(e, DDPM_EDEVICE,
                   "device=%s: this build has no cuda backend (it was made without the CUDA toolkit or cuDNN): use "
                   "device=cpu",
                   spec->device);
}

bool cuda_present(void) { return false; }
