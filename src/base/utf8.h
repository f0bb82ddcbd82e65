/* utf8.h - is a text UTF-8? */
#ifndef DDPM_UTF8_H
#define DDPM_UTF8_H
#include <stdbool.h>

/* RFC 3629: no overlong forms, no surrogates, nothing above U+10FFFF. */
bool text_is_utf8(const char *text);

/* Copy at most cap - 1 bytes of text to out and replace control characters, so that a terminal only prints it. */
void text_printable(char *out, unsigned cap, const char *text);

#endif
