/* option_change.h - what it means for a run that is resumed that an option is not what it was. */
#ifndef DDPM_OPTION_CHANGE_H
#define DDPM_OPTION_CHANGE_H
#include "config/config.h"

typedef enum option_change {
    CHANGE_OF_NOTHING, /* the option is the same, or the rest of the run computes what it would have */
    CHANGE_OF_RESULTS, /* the run goes on, with other bits */
    CHANGE_OF_NETWORK  /* the weights are another network's, though perhaps no shape differs */
} option_change;

option_change option_changed(const ddpm_config *before, const ddpm_config *now, config_id option);

#endif
