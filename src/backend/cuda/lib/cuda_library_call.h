/* cuda_library_call.h - functions of a library that is loaded at run time (cuda_library.h).
 *
 * FORWARD defines the function `name` with the declaration of the library's header, against which the compiler checks
 * it.  The definition passes the call on; `failure` is its result where the library cannot be loaded.  The definitions
 * are weak: a test may define a function itself. */
#ifndef DDPM_CUDA_LIBRARY_CALL_H
#define DDPM_CUDA_LIBRARY_CALL_H
#include "backend/cuda/lib/cuda_library.h"
#include <stdatomic.h>

#define FORWARD(library, failure, result, name, parameters, arguments)                                                 \
    __attribute__((weak, visibility("hidden"))) result name parameters                                                 \
    {                                                                                                                  \
        static _Atomic(void *) known_;                                                                                 \
        union {                                                                                                        \
            void *address;                                                                                             \
            result(*function) parameters;                                                                              \
        } there_ = {atomic_load_explicit(&known_, memory_order_acquire)};                                              \
        if (!there_.address) {                                                                                         \
            there_.address = cuda_library_function(library, #name);                                                    \
            atomic_store_explicit(&known_, there_.address, memory_order_release);                                      \
        }                                                                                                              \
        return there_.address ? there_.function arguments : (failure);                                                 \
    }

#endif
