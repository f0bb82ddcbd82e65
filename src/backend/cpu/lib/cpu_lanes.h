/* cpu_lanes.h - a vector of floats as wide as a register of the target processor. */
#ifndef DDPM_CPU_LANES_H
#define DDPM_CPU_LANES_H
#include <string.h>

#ifdef __AVX512F__
enum { LANES = 16, REGISTERS = 32 };
#else
enum { LANES = 8, REGISTERS = 16 };
#endif

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* A loop over registers.  It must be unrolled, or the compiler keeps the array in memory. */
#define EACH(i, n) _Pragma("GCC unroll 16") for (int i = 0; i < (n); i++)

#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE lanes lanes_load(const float *from)
{
    lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}
static ALWAYS_INLINE void lanes_store(float *to, lanes v) { memcpy(to, &v, sizeof v); }

#endif
