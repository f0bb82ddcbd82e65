#include "base/instruction_set.h"

#if defined __x86_64__ || defined __i386__

const char *instruction_set_compiled(void)
{
#if defined __AVX512F__ && defined __AVX512BW__ && defined __AVX512DQ__ && defined __AVX512VL__
    return "AVX-512";
#elif defined __AVX2__ && defined __FMA__
    return "AVX2";
#elif defined __SSE4_2__
    return "SSE4.2";
#else
    return "SSE2";
#endif
}

const char *instruction_set_here(void)
{
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return "AVX-512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "AVX2";
    return __builtin_cpu_supports("sse4.2") ? "SSE4.2" : "SSE2";
}

#else

const char *instruction_set_compiled(void)
{
#ifdef __ARM_NEON
    return "NEON";
#else
    return "the architecture's baseline";
#endif
}

const char *instruction_set_here(void) { return instruction_set_compiled(); }

#endif
