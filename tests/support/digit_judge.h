/* digit_judge.h - is this image a digit?  A classifier that is independent of diffusion.
 *
 * The image is compared with thousands of drawn digits: it is a digit if the distance to its nearest neighbour is as
 * small as for 1000 other drawn digits, and most of the 5 nearest neighbours agree on the class. */
#ifndef DDPM_DIGIT_JUDGE_H
#define DDPM_DIGIT_JUDGE_H
#include <stdbool.h>
#include <stdint.h>

typedef struct digit_judge digit_judge;

digit_judge *digit_judge_create(int side); /* for digits of side x side pixels, white on black */
void digit_judge_destroy(digit_judge *j);
/* The digit, or -1 if the image is none. */
int digit_judge_read(const digit_judge *j, const uint8_t *pixels);

#endif
