/* Where CUDA's libraries are looked for, and what is said of one that is missing.  The libraries are small files made
 * here, each with one function; the search is that of the program.  A library stays loaded, so each search has a
 * process of its own. */
#include "backend/cuda/lib/cuda_library.h"
#include "base/file.h"
#include "support/ok.h"
#include "support/io_support.h"

#include <criterion/criterion.h>
#include <cublasLt.h>
#include <cudnn_graph.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static char folder[PATH_CAP];
static err why; /* each test is a process of its own */

static void make_folder(void)
{
    static const char *const variables[] = {"CUDNN_HOME", "CUDNN_PATH",  "CUDA_HOME",
                                            "CUDA_PATH",  "VIRTUAL_ENV", "CONDA_PREFIX"};
    for (int i = 0; i < 6; i++) (void)unsetenv(variables[i]);
    scratch_make(folder);
}
static void remove_folder(void) { scratch_remove(folder); }
TestSuite(cuda_library, .init = make_folder, .fini = remove_folder, .timeout = 60);

/* Makes <folder>/<below>/libcudnn.so.9, in which cudnnGetVersion() returns `version`. */
static const char *make_library(const char *below, int version)
{
    static char path[PATH_CAP];
    char command[3 * PATH_CAP];
    (void)snprintf(path, sizeof path, "%s%s", folder, below);
    (void)snprintf(command, sizeof command,
                   "mkdir -p '%s' && echo 'unsigned long cudnnGetVersion(void) { return %d; }' |"
                   " cc -shared -fPIC -x c - -o '%s/libcudnn.so.9'",
                   path, version, path);
    cr_assert_eq(system(command), 0);
    return path;
}

static void expect_loaded(int version, const char *path)
{
    cr_expect_eq(cudnnGetVersion(), (size_t)version);
    cr_expect(strncmp(cuda_library_path(CUDA_LIBRARY_CUDNN), path, strlen(path)) == 0, "%s",
              cuda_library_path(CUDA_LIBRARY_CUDNN));
}

Test(cuda_library, is_loaded_from_the_folder_of_the_option)
{
    const char *path = make_library("", 90001);
    OK(cuda_library_load(CUDA_LIBRARY_CUDNN, folder, &why));
    expect_loaded(90001, path);
    OK(cuda_library_load(CUDA_LIBRARY_CUDNN, "/not/there", &why)); /* once is enough */
    expect_loaded(90001, path);
}

Test(cuda_library, the_name_of_a_folder_is_not_a_pattern)
{
    const char *path = make_library("/a[1] *?", 90006);
    OK(cuda_library_load(CUDA_LIBRARY_CUDNN, path, &why));
    expect_loaded(90006, path);
}

Test(cuda_library, is_found_in_the_packages_of_a_python_environment)
{
    const char *path = make_library("/nvidia/cudnn/lib", 90002);
    char nvidia[PATH_CAP];
    OK(path_join(nvidia, folder, "nvidia", &why));
    OK(cuda_library_load(CUDA_LIBRARY_CUDNN, nvidia, &why));
    expect_loaded(90002, path);
}

Test(cuda_library, is_found_in_the_active_python_environment)
{
    const char *path = make_library("/lib/python3.11/site-packages/nvidia/cudnn/lib", 90003);
    (void)setenv("VIRTUAL_ENV", folder, 1);
    OK(cuda_library_load(CUDA_LIBRARY_CUDNN, NULL, &why));
    if (strncmp(cuda_library_path(CUDA_LIBRARY_CUDNN), "libcudnn", 8) != 0) /* the loader knows none of the system */
        expect_loaded(90003, path);
}

Test(cuda_library, the_homes_come_before_the_usual_places)
{
    const char *path = make_library("/lib64", 90004);
    (void)setenv("CUDNN_HOME", folder, 1);
    OK(cuda_library_load(CUDA_LIBRARY_CUDNN, "", &why));
    if (strncmp(cuda_library_path(CUDA_LIBRARY_CUDNN), "libcudnn", 8) != 0) expect_loaded(90004, path);
}

/* A function that the library does not have fails as one of a library that is not there. */
Test(cuda_library, a_missing_function_is_an_error_of_the_call)
{
    cudnnHandle_t handle = NULL;
    (void)make_library("", 90005);
    OK(cuda_library_load(CUDA_LIBRARY_CUDNN, folder, &why));
    cr_expect_eq(cudnnCreate(&handle), CUDNN_STATUS_NOT_INITIALIZED);
    cr_expect_str_eq(cudnnGetErrorString(CUDNN_STATUS_NOT_INITIALIZED), "cuDNN is not loaded");
}

Test(cuda_library, a_damaged_file_in_the_folder_of_the_option_is_named_and_no_other_is_taken)
{
    char path[PATH_CAP];
    OK(path_join(path, folder, "libcudnn.so.9", &why));
    OK(file_write(path, "not a library", 13, false, &why));
    cr_assert_eq(cuda_library_load(CUDA_LIBRARY_CUDNN, folder, &why), DDPM_EDEVICE);
    cr_expect(strstr(why.text, path) && strstr(why.text, "cuDNN cannot be loaded"), "%s", why.text);
    cr_expect(strstr(why.text, "nvidia-cudnn-cu") && strstr(why.text, "cuda.libraries=FOLDER") &&
                  strstr(why.text, "device=cpu"),
              "%s", why.text);
    cr_expect_str_eq(cuda_library_path(CUDA_LIBRARY_CUDNN), "");
}

/* The real libraries, where this build found them. */
Test(cuda_library, the_libraries_of_the_build_are_found)
{
    for (int i = 0; i < CUDA_LIBRARIES; i++) OK(cuda_library_load((cuda_library)i, NULL, &why));
    cr_expect(cudnnGetVersion() >= 90000 && cudnnGetVersion() < 100000);
    cr_expect(cublasLtGetVersion() >= 120000);
    cr_expect_null(cuda_library_function(CUDA_LIBRARY_CUDNN, "no_such_function"));
}
