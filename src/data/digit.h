/* digit.h - synthetic digits that look handwritten, a function of seed and index. */
#ifndef DDPM_DIGIT_H
#define DDPM_DIGIT_H
#include <stdint.h>

enum { DIGIT_CLASSES = 10, DIGIT_SIDE_MIN = 8, DIGIT_SIDE_MAX = 4096 };

/* Draw a digit, white on black, into pixels [side, side], side in [DIGIT_SIDE_MIN, DIGIT_SIDE_MAX].  Seed and index
 * decide slant, rotation, scale, thickness, shape and position.  Only operations that IEEE 754 rounds correctly (of
 * libm only sqrt) are used, so the image is identical on every machine. */
void digit_draw(uint64_t seed, uint64_t index, int digit, int side, uint8_t *pixels);

#endif
