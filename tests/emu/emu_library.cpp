/* emu_library.cpp - cuda_library.h without files: a library is there unless emu_device.missing names it. */
#include "emu/emu_control.h"

extern "C" {
#include "backend/cuda/lib/cuda_library.h"
}
#include <cstring>

extern "C" ddpm_status cuda_library_load(cuda_library which, const char *folder, err *e)
{
    static const char *const names[CUDA_LIBRARIES] = {"cuDNN", "cuBLASLt", "NVRTC"};
    const char *missing = emu_get_device()->missing;
    if (missing && !std::strcmp(missing, names[which]) && !(folder && folder[0]))
        return err_set(e, DDPM_EDEVICE, "%s cannot be loaded (no such file)", names[which]);
    return DDPM_OK;
}

extern "C" const char *cuda_library_path(cuda_library which) { return which < CUDA_LIBRARIES ? "emulated" : ""; }
