/* checkpoint_place.h - what may not be written where checkpoints are.
 *
 * A checkpoint is removed when newer ones are there, and with it whatever else lies in its folder. */
#ifndef DDPM_CHECKPOINT_PLACE_H
#define DDPM_CHECKPOINT_PLACE_H
#include "base/err.h"
#include <stdbool.h>

/* Does a path component begin here that is called as checkpoints are, step_ and digits? */
bool checkpoint_is_name(const char *name);

/* DDPM_EINVAL: `path`, which need not be there, lies within RUN/ckpt/step_X or RUN/ckpt/aside_NNN/step_X, links
 * followed.  `option` is what the message calls it: "out". */
DDPM_MUST_CHECK ddpm_status checkpoint_refuse_inside(const char *path, const char *option, err *e);

#endif
