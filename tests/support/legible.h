/* legible.h - is this picture a digit?  A judge that knows nothing of diffusion.
 *
 * It compares with thousands of drawn digits: a picture is legible when its nearest neighbour is as near
 * as those of 1000 other drawn digits are, and most of the 5 nearest agree on the class. */
#ifndef DDPM_LEGIBLE_H
#define DDPM_LEGIBLE_H
#include <stdbool.h>
#include <stdint.h>

typedef struct judge judge;

judge *judge_create(int side); /* of digits of side x side pixels, white on black */
void judge_destroy(judge *j);
/* The digit, or -1 where it is none. */
int judge_read(const judge *j, const uint8_t *pixels);

#endif
