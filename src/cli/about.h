/* about.h - what the program is and was built with. */
#ifndef DDPM_ABOUT_H
#define DDPM_ABOUT_H
#include <stddef.h>
#include <stdio.h>

/* "Release by GCC 12.2.0 for AVX-512" */
void about_build(char *text, size_t cap);
const char *about_commit(void); /* "91c5212d0a0e", with -dirty where the sources had been changed; "unknown" */

void about_version(FILE *out); /* the lines of --version */

#endif
