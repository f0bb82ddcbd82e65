/* nearest.h - edit distance, to suggest the nearest known name for a mistyped one. */
#ifndef DDPM_NEAREST_H
#define DDPM_NEAREST_H

/* Edit distance of a and b: insertions, deletions and substitutions of a character, and transpositions of two
 * neighbours (optimal string alignment).  Only the first 63 bytes of each are compared. */
int text_distance(const char *a, const char *b);

#endif
