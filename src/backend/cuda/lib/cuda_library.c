#include "backend/cuda/lib/cuda_library.h"
#include "base/file.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <glob.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF(x) #x
#define NUMBER(x)  TEXT_OF(x)
#if CUDART_VERSION >= 13000
#define CUDA_MAJOR  13
#define PYPI_SUFFIX ""
#else
#define CUDA_MAJOR  12
#define PYPI_SUFFIX "-cu12"
#endif
#ifndef CUDNN_FOLDER /* cmake/cuda.cmake */
#define CUDNN_FOLDER ""
#define CUDA_FOLDER  ""
#endif

typedef struct entry {
    const char *name, *file, *package, *built_with;
    void *handle;
    char path[PATH_CAP];
} entry;

static entry libraries[CUDA_LIBRARIES] = {
    [CUDA_LIBRARY_CUDNN] = {.name = "cuDNN",
                            .file = "libcudnn.so.9",
                            .package = "libcudnn9-cuda-" NUMBER(
                                CUDA_MAJOR) " of NVIDIA's repository or nvidia-cudnn-cu" NUMBER(CUDA_MAJOR) " of PyPI",
                            .built_with = CUDNN_FOLDER},
    [CUDA_LIBRARY_CUBLASLT] = {.name = "cuBLASLt",
                               .file = "libcublasLt.so." NUMBER(CUDA_MAJOR),
                               .package =
                                   "libcublas of CUDA " NUMBER(CUDA_MAJOR) " or nvidia-cublas" PYPI_SUFFIX " of PyPI",
                               .built_with = CUDA_FOLDER},
    [CUDA_LIBRARY_NVRTC] = {.name = "NVRTC",
                            .file = "libnvrtc.so." NUMBER(CUDA_MAJOR),
                            .package =
                                "cuda-nvrtc of CUDA " NUMBER(CUDA_MAJOR) " or nvidia-cuda-nvrtc" PYPI_SUFFIX " of PyPI",
                            .built_with = CUDA_FOLDER},
};
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* True if the file exists; it is loaded if possible, else `why` has the loader's reason. */
static bool try_file(entry *l, const char *path, err *why)
{
    if (strchr(path, '/') && !path_exists(path)) return false;
    (void)dlerror();
    l->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (l->handle)
        (void)snprintf(l->path, sizeof l->path, "%s", path);
    else
        (void)err_set(why, DDPM_EDEVICE, "%s", dlerror());
    return l->handle || strchr(path, '/');
}

/* Every file that the pattern <folder><within>/<file> matches, in the order of their names, until one is loaded. */
static bool try_within(entry *l, const char *folder, const char *within, err *why)
{
    char pattern[PATH_CAP];
    glob_t found = {0};
    bool seen = false;
    if (!folder || !folder[0]) return false;
    char *at = pattern;
    for (const char *c = folder; *c && at < pattern + sizeof pattern - 2; c++) {
        if (strchr("*?[\\", *c)) *at++ = '\\'; /* the name of a folder, not a pattern */
        *at++ = *c;
    }
    const size_t room = (size_t)(pattern + sizeof pattern - at);
    if (snprintf(at, room, "%s/%s", within, l->file) >= (int)room || glob(pattern, 0, NULL, &found) != 0) return false;
    for (size_t i = 0; i < found.gl_pathc && !l->handle; i++) seen |= try_file(l, found.gl_pathv[i], why);
    globfree(&found);
    return seen;
}

static void search(entry *l, const char *folder, err *why)
{
    static const char *const variables[] = {"CUDNN_HOME", "CUDNN_PATH", "CUDA_HOME", "CUDA_PATH"};
    static const char *const python = "/lib/python3*/site-packages/nvidia/*/lib";
    static const char *const below[] = {"", "/lib", "/lib64", "/*/lib"};
    for (int i = 0; i < 4 && !l->handle; i++)
        if (try_within(l, folder, below[i], why)) return; /* the folder was named: no other file in its place */
    if (!l->handle) (void)try_file(l, l->file, why);
    for (int i = 0; i < 4; i++)
        for (int k = 1; k <= 2 && !l->handle; k++) (void)try_within(l, getenv(variables[i]), below[k], why);
    for (int k = 1; k <= 2 && !l->handle; k++) (void)try_within(l, "/usr/local/cuda", below[k], why);
    if (!l->handle) (void)try_within(l, getenv("VIRTUAL_ENV"), python, why);
    if (!l->handle) (void)try_within(l, getenv("CONDA_PREFIX"), "/lib", why);
    if (!l->handle) (void)try_within(l, getenv("CONDA_PREFIX"), python, why);
    if (!l->handle) (void)try_within(l, l->built_with, "", why);
}

static ddpm_status load(entry *l, const char *folder, err *e)
{
    err why = {0};
    if (!l->handle) search(l, folder, &why);
    if (l->handle) return DDPM_OK;
    return err_set(e, DDPM_EDEVICE,
                   "%s cannot be loaded (%s): install it (%s), name its folder with cuda.libraries=FOLDER or "
                   "LD_LIBRARY_PATH, or use device=cpu",
                   l->name, why.text, l->package);
}

ddpm_status cuda_library_load(cuda_library which, const char *folder, err *e)
{
    (void)pthread_mutex_lock(&lock);
    const ddpm_status st = load(&libraries[which], folder, e);
    (void)pthread_mutex_unlock(&lock);
    return st;
}

const char *cuda_library_path(cuda_library which) { return libraries[which].path; }

void *cuda_library_function(cuda_library which, const char *name)
{
    err ignored;
    return cuda_library_load(which, NULL, &ignored) == DDPM_OK ? dlsym(libraries[which].handle, name) : NULL;
}
