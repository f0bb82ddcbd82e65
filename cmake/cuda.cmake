# The kernels for real: kernels/*.cu into the static library kernels_cuda, and the test ptx_gate.
#
#   CUDA=AUTO  where nvcc is found      CUDA=ON  nvcc must be there      CUDA=OFF  never
#
# nvcc is called directly rather than through enable_language(CUDA): a machine without the toolkit
# then configures in silence, and nothing asks what GPU is in this one.
string(TOUPPER "${CUDA}" CUDA_WANTED)
if(NOT CUDA_WANTED MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "CUDA=${CUDA}: must be AUTO, ON or OFF")
endif()
if(CUDA_WANTED STREQUAL "OFF")
  return()
endif()

find_program(NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
mark_as_advanced(NVCC)
if(NOT NVCC)
  if(CUDA_WANTED STREQUAL "ON")
    message(FATAL_ERROR "CUDA=ON, but nvcc is neither on the PATH nor in /usr/local/cuda/bin; "
      "install the CUDA toolkit, set CUDA_HOME to it, or configure with -DCUDA=OFF")
  endif()
  return()
endif()

# -fmad=false: see kernels/math/elementary.h.  tools/checks/ptx compiles with the same flags.
set(CUDA_FLAGS -std=c++17 -O3 -fmad=false -Xcompiler=-fPIC,-ffp-contract=off,-fvisibility=hidden,-Wall,-Wextra
  -gencode=arch=compute_80,code=sm_80
  -gencode=arch=compute_90,code=[sm_90,compute_90] # the PTX serves later GPUs
  -gencode=arch=compute_90a,code=sm_90a
  -I${CMAKE_SOURCE_DIR}/include -I${CMAKE_SOURCE_DIR}/kernels)
if(WERROR)
  list(APPEND CUDA_FLAGS -Werror=all-warnings -Xcompiler=-Werror)
endif()

file(GLOB CUDA_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/cuda)
set(CUDA_OBJECTS)
foreach(source ${CUDA_KERNELS})
  get_filename_component(name ${source} NAME_WE)
  set(object ${CMAKE_BINARY_DIR}/cuda/${name}.o)
  add_custom_command(OUTPUT ${object}
    COMMAND ${NVCC} ${CUDA_FLAGS} -MD -MF ${object}.d -c ${source} -o ${object}
    DEPENDS ${source} DEPFILE ${object}.d
    COMMENT "nvcc kernels/${name}.cu" VERBATIM)
  list(APPEND CUDA_OBJECTS ${object})
endforeach()

add_library(kernels_cuda STATIC ${CUDA_OBJECTS})
set_target_properties(kernels_cuda PROPERTIES LINKER_LANGUAGE CXX)
target_include_directories(kernels_cuda INTERFACE include kernels)
get_filename_component(CUDA_ROOT ${NVCC} REALPATH)
get_filename_component(CUDA_ROOT ${CUDA_ROOT}/../.. ABSOLUTE)
find_library(CUDART cudart_static HINTS ${CUDA_ROOT} PATH_SUFFIXES lib64 lib)
mark_as_advanced(CUDART)
if(CUDART)
  target_link_libraries(kernels_cuda INTERFACE ${CUDART} ${CMAKE_DL_LIBS} rt pthread)
endif()

if(TESTS)
  add_test(NAME ptx_gate COMMAND ${CMAKE_SOURCE_DIR}/tools/checks/ptx ${NVCC})
endif()
