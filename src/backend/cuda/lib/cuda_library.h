/* cuda_library.h - CUDA's libraries, loaded when the cuda backend is created.
 *
 * The program is linked with none of cuDNN, cuBLASLt and NVRTC: a machine without them, or a run on the cpu, loads
 * nothing.  cudnn_calls.c and cublas_calls.c define the functions that the backend calls and pass each call on.
 *
 * A library is looked for, in this order, in
 *   1. the folder of the option cuda.libraries, if it is set, in its lib and lib64, and in the lib of each folder in it
 *      (site-packages/nvidia of a Python environment)
 *   2. the places of the dynamic loader: LD_LIBRARY_PATH, ldconfig
 *   3. lib and lib64 of CUDNN_HOME, CUDNN_PATH, CUDA_HOME, CUDA_PATH, and of /usr/local/cuda
 *   4. the active Python environment: VIRTUAL_ENV and CONDA_PREFIX
 *   5. the folder that it was in when the program was built */
#ifndef DDPM_CUDA_LIBRARY_H
#define DDPM_CUDA_LIBRARY_H
#include "base/err.h"
#include <stddef.h>

typedef enum cuda_library {
    CUDA_LIBRARY_CUDNN,
    CUDA_LIBRARY_CUBLASLT,
    CUDA_LIBRARY_NVRTC, /* cuDNN's runtime-compiled engines need it; loaded here so that cuDNN finds it */
    CUDA_LIBRARIES
} cuda_library;

/* Loads the library, if it is not loaded yet.  folder: the option cuda.libraries, NULL or "": not set.
 * DDPM_EDEVICE: found nowhere or damaged; the message has the reason and how to install it. */
DDPM_MUST_CHECK ddpm_status cuda_library_load(cuda_library which, const char *folder, err *e);
/* The file that was loaded: a path, or the bare name if the dynamic loader found it; "": not loaded. */
const char *cuda_library_path(cuda_library which);

/* Address of a function; NULL if the library, which is loaded on demand, or the function does not exist. */
void *cuda_library_function(cuda_library which, const char *name);

#endif
