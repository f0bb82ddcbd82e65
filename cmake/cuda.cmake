# The cuda backend: sets DDPM_CUDA, and makes the target ddpm_cuda either of it or of the few lines that
# say that it is absent.
#
#   CUDA=AUTO  where all it needs is found      CUDA=ON  it must be      CUDA=OFF  absent
#
# It needs the CUDA toolkit (12.0 or newer: nvcc, cudart, cuBLASLt) and cuDNN 9; CUDA_HOME and CUDNN_HOME,
# as environment or cache variables, say where they are.  nvcc is called directly rather than through
# enable_language(CUDA): a machine without the toolkit then configures in silence, and nothing asks what
# GPU is in this one.
set(DDPM_CUDA FALSE)
string(TOUPPER "${CUDA}" CUDA_WANTED)
if(NOT CUDA_WANTED MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "CUDA=${CUDA}: must be AUTO, ON or OFF")
endif()

# ---- what is there -----------------------------------------------------------------------------
if(NOT CUDA_WANTED STREQUAL "OFF")
  set(CUDA_MISSING)
  set(CUDA_VERSION)
  find_program(NVCC nvcc HINTS ${CUDA_HOME} ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
  if(NVCC)
    get_filename_component(CUDA_ROOT ${NVCC} REALPATH)
    get_filename_component(CUDA_ROOT ${CUDA_ROOT}/../.. ABSOLUTE)
    execute_process(COMMAND ${NVCC} --version OUTPUT_VARIABLE NVCC_SAYS ERROR_QUIET)
    if(NVCC_SAYS MATCHES "release ([0-9.]+)")
      set(CUDA_VERSION ${CMAKE_MATCH_1})
    endif()
  endif()
  set(CUDA_PLACES HINTS ${CUDA_ROOT} ${CUDA_ROOT}/targets/x86_64-linux ${CUDA_ROOT}/targets/sbsa-linux)
  set(CUDNN_PLACES HINTS ${CUDNN_HOME} ENV CUDNN_HOME ENV CUDNN_PATH ENV CUDNN_ROOT ${CUDA_PLACES})
  find_path(CUDA_INCLUDE cuda_runtime_api.h ${CUDA_PLACES} PATH_SUFFIXES include)
  find_path(CUBLASLT_INCLUDE cublasLt.h ${CUDA_PLACES} PATH_SUFFIXES include)
  find_path(CUDNN_INCLUDE cudnn_graph.h ${CUDNN_PLACES} PATH_SUFFIXES include) # cuDNN 9's, not 8's
  find_library(CUDART cudart_static ${CUDA_PLACES} PATH_SUFFIXES lib64 lib)
  find_library(CUBLASLT NAMES cublasLt libcublasLt.so.13 libcublasLt.so.12 NAMES_PER_DIR ${CUDA_PLACES} PATH_SUFFIXES lib64 lib)
  find_library(CUDNN NAMES cudnn libcudnn.so.9 NAMES_PER_DIR ${CUDNN_PLACES} PATH_SUFFIXES lib64 lib) # wheels have no libcudnn.so
  mark_as_advanced(NVCC CUDA_INCLUDE CUBLASLT_INCLUDE CUDNN_INCLUDE CUDART CUBLASLT CUDNN)

  # An nvcc takes no compilers and C libraries that are much newer than itself.  Where the system's g++ is too new, an
  # older one that is installed beside it may do.
  if(CUDA_VERSION VERSION_GREATER_EQUAL 12.0 AND NOT NVCC_HOST)
    set(probe ${CMAKE_BINARY_DIR}/nvcc_probe)
    file(WRITE ${probe}.cu "#include <cmath>\n__global__ void probe(float *x) { *x = sinpif(*x); }\n")
    foreach(host g++ ${CMAKE_CXX_COMPILER} g++-15 g++-14 g++-13 g++-12 g++-11)
      execute_process(COMMAND ${NVCC} -ccbin ${host} -std=c++17 -c ${probe}.cu -o ${probe}.o
        RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
      if(failed STREQUAL "0")
        set(NVCC_HOST ${host} CACHE STRING "The host compiler that nvcc calls")
        mark_as_advanced(NVCC_HOST)
        break()
      elseif(NOT NVCC_SAYS_OF_HOST) # the first one's is the one to mend
        string(REGEX REPLACE ".*error: (#error -- )?([^\n]*).*" "\\2" said "${said}")
        string(SUBSTRING "${said}" 0 80 NVCC_SAYS_OF_HOST)
      endif()
    endforeach()
  endif()

  if(NOT NVCC)
    set(CUDA_MISSING "nvcc is neither on the PATH nor in /usr/local/cuda/bin")
    set(CUDA_REMEDY "install the CUDA toolkit or set CUDA_HOME to where it is")
  elseif(NOT CUDA_VERSION)
    set(CUDA_MISSING "${NVCC} does not run")
    set(CUDA_REMEDY "install the CUDA toolkit or set CUDA_HOME to where it is")
  elseif(CUDA_VERSION VERSION_LESS 12.0)
    set(CUDA_MISSING "${NVCC} is of CUDA ${CUDA_VERSION}, and 12.0 is needed")
    set(CUDA_REMEDY "install a newer CUDA toolkit or set CUDA_HOME to where it is")
  elseif(NOT NVCC_HOST)
    set(CUDA_MISSING "nvcc ${CUDA_VERSION} does not take this system's compiler and C library (${NVCC_SAYS_OF_HOST})")
    set(CUDA_REMEDY "install a newer CUDA toolkit, or an older g++ beside this one")
  elseif(NOT CUDA_INCLUDE OR NOT CUDART)
    set(CUDA_MISSING "cuda_runtime_api.h or libcudart_static.a is not beside ${NVCC}")
    set(CUDA_REMEDY "install the whole CUDA toolkit or set CUDA_HOME to where it is")
  elseif(NOT CUBLASLT_INCLUDE OR NOT CUBLASLT)
    set(CUDA_MISSING "cublasLt.h or libcublasLt is not in ${CUDA_ROOT}")
    set(CUDA_REMEDY "install cuBLAS (libcublas-dev) or set CUDA_HOME to where it is")
  elseif(NOT CUDNN_INCLUDE OR NOT CUDNN)
    set(CUDA_MISSING "cuDNN 9 (cudnn_graph.h, libcudnn) is neither in ${CUDA_ROOT} nor in the system's folders")
    set(CUDA_REMEDY "install cuDNN (libcudnn9-dev) or set CUDNN_HOME to where its include and lib are")
  endif()

  if(NOT CUDA_MISSING)
    set(DDPM_CUDA TRUE)
  elseif(CUDA_WANTED STREQUAL "ON")
    message(FATAL_ERROR "CUDA=ON, but ${CUDA_MISSING}: ${CUDA_REMEDY}, or configure with -DCUDA=OFF")
  else()
    message(STATUS "No cuda backend: ${CUDA_MISSING}")
  endif()
endif()

if(NOT DDPM_CUDA)
  add_library(ddpm_cuda OBJECT src/backend/cuda_absent.c)
  target_link_libraries(ddpm_cuda PRIVATE ddpm_strict PUBLIC ddpm_flags)
  if(CUDA_WANTED STREQUAL "OFF" OR NOT CUDA_VERSION OR CUDA_VERSION VERSION_LESS 12.0 OR NOT NVCC_HOST)
    return()
  endif()
endif()

# ---- the kernels -------------------------------------------------------------------------------
# Where only the libraries are missing they are compiled for the gate alone.
#
# One binary an architecture, and the PTX of the newest, which the driver compiles for later ones.
execute_process(COMMAND ${NVCC} --list-gpu-arch OUTPUT_VARIABLE NVCC_ARCHS ERROR_QUIET)
set(CUDA_USUAL_ARCHS)
foreach(arch 80 86 89 90 100 120)
  if(NVCC_ARCHS MATCHES "compute_${arch}(\n|$)")
    list(APPEND CUDA_USUAL_ARCHS ${arch})
  endif()
endforeach()
set(CUDA_ARCHS "${CUDA_USUAL_ARCHS}" CACHE STRING "What the kernels are compiled for: 80 is compute capability 8.0")
set(CUDA_PLAIN_ARCHS ${CUDA_ARCHS})
list(FILTER CUDA_PLAIN_ARCHS INCLUDE REGEX "^[0-9]+$") # 90a is for 9.0 and nothing later
if(NOT CUDA_PLAIN_ARCHS)
  message(FATAL_ERROR "CUDA_ARCHS=${CUDA_ARCHS}: at least one plain number is needed, such as 80 or 90")
endif()
list(SORT CUDA_PLAIN_ARCHS COMPARE NATURAL)
list(GET CUDA_PLAIN_ARCHS 0 CUDA_OLDEST)
list(GET CUDA_PLAIN_ARCHS -1 CUDA_NEWEST)
set(CUDA_GENCODE)
foreach(arch ${CUDA_ARCHS})
  set(code sm_${arch})
  if(arch STREQUAL CUDA_NEWEST)
    set(code [sm_${arch},compute_${arch}])
  endif()
  list(APPEND CUDA_GENCODE -gencode=arch=compute_${arch},code=${code})
endforeach()

# -fmad=false: see kernels/math/elementary.h.
set(CUDA_FLAGS -ccbin ${NVCC_HOST} -std=c++17 -O3 -fmad=false
  -Xcompiler=-fPIC,-ffp-contract=off,-fvisibility=hidden,-Wall,-Wextra
  ${CUDA_GENCODE} -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR}/kernels)
if(WERROR)
  list(APPEND CUDA_FLAGS -Werror=all-warnings -Xcompiler=-Werror)
endif()

file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
set(NVCC_REPORT ${CMAKE_SOURCE_DIR}/cmake/nvcc_report) # keeps what tools/checks/ptx and ptx_budget read
set(CUDA_OBJECTS)
foreach(source ${CUDA_KERNELS})
  get_filename_component(name ${source} NAME_WE)
  set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  set(report ${CMAKE_BINARY_DIR}/cuda/${name})
  add_custom_command(OUTPUT ${object} ${report}/ptxas
    COMMAND ${NVCC_REPORT} ${report} ${NVCC} ${CUDA_FLAGS} -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} ${NVCC_REPORT} DEPFILE ${object}.d
    COMMENT "nvcc kernels/${name}.cu" VERBATIM)
  list(APPEND CUDA_OBJECTS ${object})
endforeach()
add_library(kernels_cuda STATIC ${CUDA_OBJECTS})
set_target_properties(kernels_cuda PROPERTIES LINKER_LANGUAGE CXX)
if(TESTS AND 90 IN_LIST CUDA_ARCHS) # ptx_budget reads the figures of 9.0
  add_test(NAME ptx_gate COMMAND ${CMAKE_SOURCE_DIR}/tools/checks/ptx ${CMAKE_BINARY_DIR})
  add_test(NAME ptx_budget COMMAND ${CMAKE_SOURCE_DIR}/tools/checks/ptx_budget ${CMAKE_BINARY_DIR})
  set_tests_properties(ptx_gate ptx_budget PROPERTIES LABELS release RESOURCE_LOCK kernels_cuda) # both bring the kernels up to date
endif()
if(NOT DDPM_CUDA)
  set_target_properties(kernels_cuda PROPERTIES EXCLUDE_FROM_ALL ON)
  return()
endif()
target_include_directories(kernels_cuda INTERFACE include kernels)
target_link_libraries(kernels_cuda INTERFACE ${CUDART} ${CMAKE_DL_LIBS} rt pthread stdc++)

# ---- the host's part ---------------------------------------------------------------------------
file(GLOB_RECURSE CUDA_SOURCES CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/cuda/*.c)
add_library(ddpm_cuda OBJECT ${CUDA_SOURCES})
target_compile_definitions(ddpm_cuda PRIVATE CUDA_OLDEST=${CUDA_OLDEST})
target_include_directories(ddpm_cuda SYSTEM PUBLIC ${CUDA_INCLUDE} ${CUBLASLT_INCLUDE} ${CUDNN_INCLUDE})
# cuDNN and cuBLASLt are loaded at run time (lib/cuda_library.h); these are the folders they may be in.
get_filename_component(CUDNN_FOLDER ${CUDNN} DIRECTORY)
get_filename_component(CUDA_FOLDER ${CUBLASLT} DIRECTORY)
set_source_files_properties(src/backend/cuda/lib/cuda_library.c PROPERTIES
  COMPILE_DEFINITIONS "CUDNN_FOLDER=\"${CUDNN_FOLDER}\";CUDA_FOLDER=\"${CUDA_FOLDER}\"")
target_link_libraries(ddpm_cuda PRIVATE ddpm_strict PUBLIC ddpm_flags lib::xxhash kernels_cuda ${CMAKE_DL_LIBS})
message(STATUS "The cuda backend: CUDA ${CUDA_VERSION} for ${CUDA_ARCHS}, ${CUDNN}, ${CUBLASLT}")
