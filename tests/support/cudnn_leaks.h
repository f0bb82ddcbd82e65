/* cudnn_leaks.h - what cuDNN itself loses, so that the leak checker can watch the rest.
 *
 * To be included by one file of each program that calls cuDNN.  Seen with 9.19:
 *   - every question to a heuristic loses one graph descriptor;
 *   - every engine that looks for cuBLASLt where no device is loses what cublasLtCreate() allocated;
 *   - libnvrtc is loaded and unloaded more than once, and each time its C++ runtime loses a buffer that
 *     no suppression can name, for its code is gone by then: so here it stays loaded. */
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
