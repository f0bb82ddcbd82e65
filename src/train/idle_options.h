/* idle_options.h - options that are set, but have no effect with the others. */
#ifndef DDPM_IDLE_OPTIONS_H
#define DDPM_IDLE_OPTIONS_H
#include "base/notes.h"
#include "config/config.h"
#include "model/network.h"

/* Note the options of network, process and training that are set to another value than their default, and why they have no
 * effect. */
void note_idle_options(const ddpm_config *c, const network *net, notes *remarks);

#endif
