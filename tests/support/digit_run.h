/* digit_run.h - a training run on digits, and what its network draws.  For tests that take minutes.
 *
 * A failure fails the running test. */
#ifndef DDPM_DIGIT_RUN_H
#define DDPM_DIGIT_RUN_H
#include "train/training_run.h"

/* Trains as `c` says, without previews, on every processor. */
void digit_run_train(const ddpm_config *c);
/* Samples pictures 0 to n - 1 into pixels u8 [n, h, w], picture i with label i mod 10, from the newest checkpoint of
 * c->out, by the options of c->sample; returns the evaluations of the network for each picture. */
int digit_run_sample(const ddpm_config *c, int n, uint8_t *pixels);

#endif
