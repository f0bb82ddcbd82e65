/* lr_step_rules.h - the text of train.lr_step_rules: the pieces of diffusers' piecewise_constant schedule. */
#ifndef DDPM_LR_STEP_RULES_H
#define DDPM_LR_STEP_RULES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LR_STEP_RULES = 8 }; /* most pieces before the last */

typedef struct lr_step_rules {
    int pieces;                       /* 0 .. LR_STEP_RULES */
    int64_t until[LR_STEP_RULES];     /* step at which piece k ends, ascending */
    double factor[LR_STEP_RULES + 1]; /* of the learning rate in piece k; factor[pieces]: after the last one */
} lr_step_rules;

/* Parse "1:10,0.1:20,0.005": factor 1 before step 10, 0.1 before step 20, then 0.005; factors are 0 to 1e6.
 * false: not of this form, with the reason in why[cap]. */
bool lr_step_rules_read(const char *text, lr_step_rules *out, char *why, size_t cap);

#endif
