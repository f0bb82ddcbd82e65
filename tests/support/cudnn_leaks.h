/* cudnn_leaks.h - suppressions for cuDNN's own leaks, so that the leak checker reports all others.
 *
 * Include in one file of each program that calls cuDNN.  Observed with 9.19:
 *   - every query of a heuristic leaks one graph descriptor;
 *   - every engine that looks for cuBLASLt where no device exists leaks what cublasLtCreate() allocated;
 *   - libnvrtc is loaded and unloaded more than once, and each time its C++ runtime leaks a buffer that no suppression
 *     can name, because its code is unloaded by then: so libnvrtc stays loaded here. */
#ifndef DDPM_TESTS_CUDNN_LEAKS_H
#define DDPM_TESTS_CUDNN_LEAKS_H
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>

const char *__lsan_default_suppressions(void);
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void)
{
    return "leak:cudnnBackendGetMetadataFromGraph\nleak:cublasLtCreate\n";
}

__attribute__((constructor)) static void keep_nvrtc_loaded(void)
{
    char name[32];
    (void)snprintf(name, sizeof name, "libnvrtc.so.%d", CUDART_VERSION / 1000);
    (void)dlopen(name, RTLD_NOW | RTLD_NODELETE);
}

#endif
