/* noising.h - a visualization of the forward process: one image at several timesteps. */
#ifndef DDPM_NOISING_H
#define DDPM_NOISING_H
#include "data/image.h"
#include "io/scheduler_config.h"
#include <stdint.h>

/* A sample of q(x_t | x_0), of whichever process, for each t[n] in [0, T) (of EDM: sigma_min (sigma_max / sigma_min)^(t / T),
 * scaled as the network sees it), side by side, wrapped into rows if that is too wide for an image.
 * All use the same noise, so that the strip shows how it grows.  t = 0 is the image after the first step, almost
 * clean. */
DDPM_MUST_CHECK ddpm_status noising_strip(const image *x0, const scheduler_config *scheduler, const int *t, int n,
                                          uint64_t seed, image *out, err *e);

#endif
