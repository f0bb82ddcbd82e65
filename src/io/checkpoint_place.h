/* checkpoint_place.h - refusing output paths within a checkpoint.
 *
 * Checkpoints are removed once newer ones exist, with all other files in their folders. */
#ifndef DDPM_CHECKPOINT_PLACE_H
#define DDPM_CHECKPOINT_PLACE_H
#include "base/err.h"
#include <stdbool.h>

/* Does `name` begin with a path component that has the form of a checkpoint's name: step_ and digits? */
bool checkpoint_is_name(const char *name);

/* Does `name` begin with superseded_, as the folders in ckpt/ do that contain the later checkpoints of a rewound run?
 * Earlier versions called these folders aside_NNN. */
bool checkpoint_is_superseded(const char *name);

/* DDPM_EINVAL: `path`, which need not exist, lies within RUN/ckpt/step_X or RUN/ckpt/superseded_NNN/step_X after
 * resolving links.  `option` is the option's name for the message: "out". */
DDPM_MUST_CHECK ddpm_status checkpoint_refuse_inside(const char *path, const char *option, err *e);

#endif
