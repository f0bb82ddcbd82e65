/* noising.h - a picture of the forward process: one image at several timesteps. */
#ifndef DDPM_NOISING_H
#define DDPM_NOISING_H
#include "data/image.h"
#include "io/scheduler_config.h"
#include <stdint.h>

/* q(x_t | x_0) for each t[n] in [0, T), side by side, in rows where that is too wide for an image; one noise for all, so
 * that it is seen to take over.
 * t = 0 is the image after the first step, all but clean. */
DDPM_MUST_CHECK ddpm_status noising_strip(const image *x0, const scheduler_config *scheduler, const int *t, int n,
                                          uint64_t seed, image *out, err *e);

#endif
