/* clock.h - the monotonic clock, for rates and progress; results must never depend on it. */
#ifndef DDPM_CLOCK_H
#define DDPM_CLOCK_H
#include <time.h>

static inline double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
