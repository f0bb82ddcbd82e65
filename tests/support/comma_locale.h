/* comma_locale.h - a locale with a decimal comma, on machines where none is installed. */
#ifndef DDPM_TESTS_COMMA_LOCALE_H
#define DDPM_TESTS_COMMA_LOCALE_H
#include <stdbool.h>

/* Sets a locale in which numbers have a decimal comma ("1,5" for 1.5), as a GUI does that calls
 * setlocale(LC_ALL, "").  false: not possible with this C library. */
bool comma_locale(void);

#endif
