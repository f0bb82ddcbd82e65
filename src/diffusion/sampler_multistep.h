/* sampler_multistep.h - steps that use the predictions of earlier ones; private to src/diffusion/sampler*.c.
 *
 *   x' = a x + sum_j c[j] m(i - j) + s xi,   m = x0_hat or eps of row i - j, kept in slot (i - j) mod depth */
#ifndef DDPM_SAMPLER_MULTISTEP_H
#define DDPM_SAMPLER_MULTISTEP_H
#include "diffusion/sampler_draft.h"

enum { MULTISTEP_TERMS = SAMPLER_SLOTS + 2 };

typedef struct multistep {
    double a, s;
    double c[MULTISTEP_TERMS]; /* 0 beyond the order */
} multistep;

/* Steps nearer than this in lambda are one: their difference says nothing of a derivative. */
static const double LAMBDA_APART = 1e-9;

/* The rows of d->n steps, from the levels.  data: m = x0_hat; otherwise eps. */
void draft_multistep(sampler_draft *d, const multistep *steps, bool data);
/* [n] steps, zeroed; NULL after an error. */
multistep *multistep_array(sampler_draft *d);

#endif
