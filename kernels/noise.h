/* noise.h - every random number of the engine.
 *
 * A draw is Philox4x32-10 of (quad, a, b, stream) with the seed as key, and depends on nothing else: neither on the
 * batch, the backend or the number of threads or ranks, nor on where a run was resumed.
 *   quad    the element / 4, elements counted in NHWC order within one image
 *   a, b    training: low and high 32 bits of the sample's ordinal number in the run;
 *           sampling: the image's id and the row of the sampler's table
 *   stream  the purpose of the draw
 * The four words of a quad serve its elements 4 quad .. 4 quad + 3; in dropout one draw serves eight elements
 * (dropout.h). */
#ifndef DDPM_NOISE_H
#define DDPM_NOISE_H
#include "math/elementary.h"
#include "math/philox.h"

/* These values are part of the file format: a resumed run depends on them. */
enum noise_stream {
    NOISE_TRAIN_EPS,
    NOISE_TRAIN_T,
    NOISE_FLIP,
    NOISE_SAMPLE_INIT,
    NOISE_SAMPLE_STEP,
    NOISE_PARAM_INIT,
    NOISE_SHUFFLE,
    NOISE_DIGITS,
    NOISE_DROPOUT,                   /* plus the number of the layer: all numbers from here to NOISE_SAMPLE_PASTE */
    NOISE_SAMPLE_PASTE = 0x40000000, /* the noise of what a mask keeps */
    NOISE_OFFSET,                    /* training: one draw for each channel of an image (quad: the channel / 4) */
    NOISE_PERTURB,                   /* training: noise that only the network's input has */
    NOISE_STRATIFY,                  /* training: where the sequence of stratified timesteps begins */
    NOISE_EVAL = 0x40000100          /* evaluation: eps of image i at step k of n, with the ordinal i n + k */
};

typedef struct normal4 {
    float v[4];
} normal4;

HD philox4 noise_bits(uint64_t seed, uint32_t stream, uint32_t a, uint32_t b, uint32_t quad)
{
    const philox4 counter = {{quad, a, b, stream}};
    return philox(counter, seed);
}

/* Uniform on the 2^24 multiples of 2^-24 in [0, 1). */
HD float noise_uniform(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* Uniform in [0, n), n >= 1, by multiplication: the relative error of each value's probability is at most n / 2^32. */
HD uint32_t noise_below(uint32_t word, uint32_t n) { return (uint32_t)((uint64_t)word * n >> 32); }

/* Two independent N(0, 1) draws from two words: Box & Muller 1958,
 *   sqrt(-2 ln u) (cos, sin)(2 pi word1 / 2^32),  u = (floor(word0 / 256) + 1) / 2^24 in (0, 1].
 * No |draw| exceeds sqrt(48 ln 2) = 5.77; error < 7e-7 absolute. */
HD void noise_normal_pair(uint32_t word0, uint32_t word1, float *out)
{
    const float radius = sqrtf(-2.0f * log_f32((float)((word0 >> 8) + 1u) * 0x1p-24f));
    /* the angle as the nearest multiple of pi/2 and a remainder in [-pi/4, pi/4) */
    const uint32_t turned = word1 + 0x20000000u;
    const int32_t rest = (int32_t)(turned & 0x3FFFFFFFu) - 0x20000000;
    const sincos_pair angle = sincos_reduced((float)rest * (0x1p-30f * 1.57079632679489662f), turned >> 30);
    out[0] = radius * angle.cos;
    out[1] = radius * angle.sin;
}

/* The four normal draws of a quad: words 0 and 1 give elements 0 and 1, words 2 and 3 the other two. */
HD normal4 noise_normal4(uint64_t seed, uint32_t stream, uint32_t a, uint32_t b, uint32_t quad)
{
    const philox4 words = noise_bits(seed, stream, a, b, quad);
    normal4 z;
    noise_normal_pair(words.v[0], words.v[1], z.v);
    noise_normal_pair(words.v[2], words.v[3], z.v + 2);
    return z;
}

/* Writes quads * 4 draws, starting with quad `first`, to out, in a plain loop that compilers vectorize. */
static inline void noise_normals(uint64_t seed, uint32_t stream, const uint32_t ab[2], uint32_t first, int quads,
                                 float *out)
{
    const uint32_t a = ab[0], b = ab[1];
    for (int q = 0; q < quads; q++) {
        const normal4 z = noise_normal4(seed, stream, a, b, first + (uint32_t)q);
        for (int k = 0; k < 4; k++) out[4 * q + k] = z.v[k];
    }
}

#endif
