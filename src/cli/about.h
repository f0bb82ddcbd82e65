/* about.h - version and build information. */
#ifndef DDPM_ABOUT_H
#define DDPM_ABOUT_H
#include <stddef.h>
#include <stdio.h>

/* "Release by GCC 12.2.0 for AVX-512" */
void about_build(char *text, size_t cap);
const char *about_commit(void); /* "91c5212d0a0e", with -dirty if the sources had uncommitted changes; "unknown" */

void about_version(FILE *out); /* print the lines of --version */

#endif
