/* advice.h - warnings before a run begins about valid settings that cannot have the intended effect. */
#ifndef DDPM_ADVICE_H
#define DDPM_ADVICE_H
#include "config/config.h"

enum { ADVICE_MOST = 24, ADVICE_TEXT = 240 };

/* Write one line per such setting, for a run of `steps` optimizer steps in all on `images` images; returns the number
 * of lines. */
int advice_of(const ddpm_config *c, int64_t steps, int64_t images, char text[ADVICE_MOST][ADVICE_TEXT]);

#endif
