/* option_change.h - the effect of a changed option on a resumed run. */
#ifndef DDPM_OPTION_CHANGE_H
#define DDPM_OPTION_CHANGE_H
#include "config/config.h"

typedef enum option_change {
    CHANGE_OF_NOTHING, /* the option is unchanged, or does not affect the results of the rest of the run */
    CHANGE_OF_RESULTS, /* the run can continue, with different results */
    CHANGE_OF_NETWORK  /* the weights belong to a different network, even if all shapes are equal */
} option_change;

option_change option_changed(const ddpm_config *before, const ddpm_config *now, config_id option);

#endif
