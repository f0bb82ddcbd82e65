/* bytes.h - human-readable amounts of memory. */
#ifndef DDPM_BYTES_H
#define DDPM_BYTES_H
#include <stddef.h>

enum { BYTES_CAP = 32 };

/* "2.50 GiB"; below 1 GiB "37.5 MiB".  Returns out. */
const char *bytes_text(char out[BYTES_CAP], size_t bytes);

#endif
