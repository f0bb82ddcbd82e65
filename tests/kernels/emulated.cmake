# The kernels as C++, and the cuda backend's host code, on the emulator of tests/emu, always under
# AddressSanitizer and UndefinedBehaviorSanitizer: both run on machines that have no GPU.
file(GLOB EMULATED_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
set_source_files_properties(${EMULATED_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")

add_library(kernels_emulated STATIC ${EMULATED_KERNELS} emu/cuda_emu.cpp)
target_link_libraries(kernels_emulated PUBLIC ddpm_flags)
target_include_directories(kernels_emulated PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(kernels_emulated PUBLIC DDPM_CUDA_EMU)
target_compile_options(kernels_emulated PUBLIC -O1 -fsanitize=address,undefined -fno-sanitize-recover=all
  -fno-omit-frame-pointer -g $<$<C_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>) # gcc loses its way among the checks
target_link_options(kernels_emulated PUBLIC -fsanitize=address,undefined)

# The cuda backend without the files that know CUDA's libraries; tests/emu stands in for those.
file(GLOB_RECURSE EMULATED_HOST CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/backend/cuda/*.c)
list(FILTER EMULATED_HOST EXCLUDE REGEX "/lib/")
list(APPEND EMULATED_HOST ${CMAKE_SOURCE_DIR}/src/backend/cuda/lib/gemm_layout.c) # which calls none of them
file(GLOB EMULATED_SEAMS CONFIGURE_DEPENDS emu/emu_*.cpp)
# For speed; the extents of what the loops touch are checked before they run.
set_source_files_properties(${CMAKE_CURRENT_SOURCE_DIR}/emu/emu_loops.cpp PROPERTIES
  COMPILE_OPTIONS "-fno-sanitize=all;-O3;${OpenMP_C_FLAGS}")
add_library(backend_emulated OBJECT ${EMULATED_HOST} ${EMULATED_SEAMS})
target_link_libraries(backend_emulated PUBLIC kernels_emulated lib::xxhash PRIVATE ddpm_strict)

# The whole library with that backend, in ddpm_static's place: a program links one of the two.
add_library(ddpm_emulated STATIC $<TARGET_OBJECTS:ddpm_objects> $<TARGET_OBJECTS:backend_emulated>)
target_link_libraries(ddpm_emulated PUBLIC kernels_emulated ddpm_objects)
add_library(test_support_emulated STATIC ${TEST_SUPPORT} $<TARGET_OBJECTS:ddpm_bench>)
target_link_libraries(test_support_emulated PUBLIC test_base ddpm_emulated)
target_compile_definitions(test_support_emulated PUBLIC TEST_DEVICE="cuda")

# The program and the microbenchmarks on the emulated device, for tools/gpu_check --practise.
foreach(program ddpm mb)
  add_executable(emulated_${program} EXCLUDE_FROM_ALL $<TARGET_OBJECTS:ddpm_bench>)
  set_target_properties(emulated_${program} PROPERTIES OUTPUT_NAME ${program}
    RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/emulated)
  target_link_libraries(emulated_${program} PRIVATE ddpm_emulated ddpm_strict ${CMAKE_DL_LIBS})
endforeach()
target_sources(emulated_ddpm PRIVATE ${DDPM_CLI})
target_sources(emulated_mb PRIVATE ${MB_ANY_BACKEND})
add_dependencies(emulated_ddpm commit)
target_include_directories(emulated_ddpm PRIVATE ${CMAKE_BINARY_DIR}/generated)
target_compile_definitions(emulated_ddpm PRIVATE DDPM_BUILD_TYPE="emulated")

function(emulated_entry name program)
  ddpm_test_entry(${name} ${program} ${ARGN})
  set_tests_properties(${name} PROPERTIES LABELS emulated TIMEOUT 3600)
endfunction()

function(emulated_test name source)
  ddpm_test(${name} ${source} test_support_emulated)
  set_tests_properties(${name} PROPERTIES LABELS emulated TIMEOUT 3600)
endfunction()

foreach(source ${EMULATED_TESTS})
  get_filename_component(name ${source} NAME_WE)
  emulated_test(${name} ${source})
endforeach()

target_include_directories(test_launch_counts PRIVATE ${CMAKE_SOURCE_DIR}/bench) # mb/predictions.h

# The tests of the ops once more, on the emulated device: in f32, and in bf16.
foreach(name test_ops test_train_ops test_sample_ops)
  emulated_test(${name}_emulated nn/${name}.c)
  emulated_entry(${name}_emulated_bf16 ${name}_emulated DDPM_TEST_PRECISION=bf16)
endforeach()

# And without any optimization: without beta = 1 gradients are added by another way.  In f32: without it a bf16 sum is
# rounded twice, and the bounds allow for one rounding.
emulated_entry(test_ops_emulated_without_all test_ops_emulated DDPM_TEST_WITHOUT=all)

# Whole networks against PyTorch and diffusers.
foreach(name test_simple_golden test_unet_golden)
  emulated_test(${name}_emulated model/${name}.c)
endforeach()

# Whole sampling loops against diffusers: a share of the cases, in f32, and in bf16.
emulated_test(test_loops_emulated sample/test_loops.c)
emulated_entry(test_loops_emulated_bf16 test_loops_emulated DDPM_TEST_PRECISION=bf16)

# What the backward pass makes again, where the cuda backend does the work.
emulated_test(test_plan_recompute_emulated plan/test_plan_recompute.c)

# The rigs of `ddpm bench` on the emulated device, where every part of a step runs several times in a row.
emulated_test(test_bench_rigs_emulated bench/test_bench_rigs.c)
