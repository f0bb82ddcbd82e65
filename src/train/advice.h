/* advice.h - settings that are allowed and cannot do what they were meant to, said before a run begins. */
#ifndef DDPM_ADVICE_H
#define DDPM_ADVICE_H
#include "config/config.h"

enum { ADVICE_MOST = 12, ADVICE_TEXT = 240 };

/* One line for each such setting of a run of `steps` optimizer steps in all on `images` images; returns how many. */
int advice_of(const ddpm_config *c, int64_t steps, int64_t images, char text[ADVICE_MOST][ADVICE_TEXT]);

#endif
