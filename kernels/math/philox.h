/* philox.h - Philox4x32-10, random words as a pure function of a counter and a key.
 *
 * Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.  Every word of
 * every stream can be computed independently, so neither the order nor the number of threads matters. */
#ifndef DDPM_PHILOX_H
#define DDPM_PHILOX_H
#include "cuda_port.h"
#include <stdint.h>

typedef struct philox4 {
    uint32_t v[4]; /* independent, uniform on all 2^32 values */
} philox4;

/* `counter` encrypted under `key` (its low half is the first key word) in ten rounds. */
HD philox4 philox(philox4 counter, uint64_t key)
{
    philox4 c = counter;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c.v[0], p1 = (uint64_t)0xCD9E8D57u * c.v[2];
        const philox4 next = {
            {(uint32_t)(p1 >> 32) ^ c.v[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1, (uint32_t)p0}};
        c = next;
        k0 += 0x9E3779B9u; /* the golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    return c;
}

#endif
