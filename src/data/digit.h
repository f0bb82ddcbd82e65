/* digit.h - handwritten-looking digits, drawn from nothing but a seed and a number. */
#ifndef DDPM_DIGIT_H
#define DDPM_DIGIT_H
#include <stdint.h>

enum { DIGIT_CLASSES = 10, DIGIT_SIDE_MIN = 8, DIGIT_SIDE_MAX = 4096 };

/* White on black into pixels [side, side], side in [DIGIT_SIDE_MIN, DIGIT_SIDE_MAX].  `index` alone chooses
 * slant, turn, scale, thickness, shape and place.  Only operations that IEEE 754 rounds exactly (no libm but
 * sqrt), so the picture is the same on every machine. */
void digit_draw(uint64_t seed, uint64_t index, int digit, int side, uint8_t *pixels);

#endif
