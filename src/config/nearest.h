/* nearest.h - which known name did somebody mean? */
#ifndef DDPM_NEAREST_H
#define DDPM_NEAREST_H

/* Edits that turn a into b: one character put in, taken out or replaced, or two neighbours exchanged
 * (optimal string alignment).  Only the first 63 bytes of each count. */
int text_distance(const char *a, const char *b);

#endif
