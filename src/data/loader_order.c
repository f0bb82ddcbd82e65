/* loader_order.c - the order of the samples: a keyed permutation that is computed, not stored.
 *
 * A Feistel network permutes [0, 2^(2 half)), the smallest such range that contains [0, count), at most 4 times as
 * large; results outside [0, count) are permuted again until they fall inside ("cycle walking": Black & Rogaway,
 * "Ciphers with arbitrary finite domains", CT-RSA 2002). */
#include "data/loader.h"

#include "noise.h"

enum { ROUNDS = 8, HALF_BITS_MAX = 26 };

static uint64_t permute(uint64_t seed, uint64_t epoch, int half, uint64_t x)
{
    const uint32_t mask = ((uint32_t)1 << half) - 1;
    uint32_t left = (uint32_t)(x >> half), right = (uint32_t)x & mask;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const philox4 mixed =
            noise_bits(seed, NOISE_SHUFFLE, (uint32_t)epoch, (uint32_t)(epoch >> 32), round << HALF_BITS_MAX | right);
        const uint32_t next = left ^ (mixed.v[0] & mask);
        left = right;
        right = next;
    }
    return (uint64_t)left << half | right;
}

int64_t loader_image_index(uint64_t seed, int64_t count, uint64_t ordinal, bool shuffle)
{
    const uint64_t n = (uint64_t)count, epoch = ordinal / n;
    uint64_t at = ordinal % n;
    if (!shuffle) return (int64_t)at;
    int half = 1;
    while (half < HALF_BITS_MAX && (uint64_t)1 << (2 * half) < n) half++;
    do at = permute(seed, epoch, half, at);
    while (at >= n);
    return (int64_t)at;
}
