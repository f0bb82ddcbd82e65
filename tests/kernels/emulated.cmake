# The kernels as C++ on the emulator of tests/emu, always under AddressSanitizer and
# UndefinedBehaviorSanitizer: every kernel runs on machines that have no GPU.
file(GLOB EMULATED_KERNELS CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/*.cu)
set_source_files_properties(${EMULATED_KERNELS} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-x;c++")

add_library(kernels_emulated STATIC ${EMULATED_KERNELS} emu/cuda_emu.cpp)
target_link_libraries(kernels_emulated PUBLIC ddpm_flags)
target_include_directories(kernels_emulated PUBLIC ${CMAKE_CURRENT_SOURCE_DIR})
target_compile_definitions(kernels_emulated PUBLIC DDPM_CUDA_EMU)
target_compile_options(kernels_emulated PUBLIC -fsanitize=address,undefined -fno-sanitize-recover=all
  -fno-omit-frame-pointer -g)
target_link_options(kernels_emulated PUBLIC -fsanitize=address,undefined)

file(GLOB EMULATED_TESTS CONFIGURE_DEPENDS emu/test_*.cpp kernels/test_*.cpp)
foreach(source ${EMULATED_TESTS})
  ddpm_test(${source})
  get_filename_component(name ${source} NAME_WE)
  target_link_libraries(${name} PRIVATE kernels_emulated)
  set_tests_properties(${name} PROPERTIES LABELS emulated)
endforeach()
