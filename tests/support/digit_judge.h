/* digit_judge.h - is this picture a digit?  A judge that knows nothing of diffusion.
 *
 * It compares with thousands of drawn digits: a picture is a digit when its nearest neighbour is as near
 * as those of 1000 other drawn digits are, and most of the 5 nearest agree on the class. */
#ifndef DDPM_DIGIT_JUDGE_H
#define DDPM_DIGIT_JUDGE_H
#include <stdbool.h>
#include <stdint.h>

typedef struct digit_judge digit_judge;

digit_judge *digit_judge_create(int side); /* of digits of side x side pixels, white on black */
void digit_judge_destroy(digit_judge *j);
/* The digit, or -1 where it is none. */
int digit_judge_read(const digit_judge *j, const uint8_t *pixels);

#endif
