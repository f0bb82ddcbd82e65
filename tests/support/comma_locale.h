/* comma_locale.h - a locale that writes a comma where C writes a point, on machines that have none installed. */
#ifndef DDPM_TESTS_COMMA_LOCALE_H
#define DDPM_TESTS_COMMA_LOCALE_H
#include <stdbool.h>

/* Numbers of the calling process have a comma from here on ("1,5" for 1.5), in the way of a GUI that calls
 * setlocale(LC_ALL, "").  false: not with this C library. */
bool comma_locale(void);

#endif
