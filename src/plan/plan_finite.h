/* plan_finite.h - finds the step of a plan that computes the first value that is not finite. */
#ifndef DDPM_PLAN_FINITE_H
#define DDPM_PLAN_FINITE_H
#include "plan/plan.h"

typedef struct plan_finding {
    const step *s;         /* NULL: every result is finite */
    const tensor *result;  /* the first output of s that is not finite */
    const tensor *weights; /* a parameter that s reads and that is itself not finite; NULL: none */
    bool backward;
} plan_finding;

/* Runs the steps one by one, except those of the optimizer's update (OP_UPDATE), and reads the results of each (f32 and
 * bf16) right after it, while no later step shares their memory.  Stops at the first step with a result that is not
 * finite.  All memory of p is allocated and bound.  Activations are overwritten, gradients of parameters are written
 * (with p->add_grads: accumulated); nothing else changes. */
DDPM_MUST_CHECK ddpm_status plan_first_not_finite(plan *p, plan_finding *out, err *e);

/* Describes a finding with f->s: "output of down_blocks.1.resnets.0.conv1 (forward)", "the loss (forward)", "gradient
 * of conv_in.weight (backward)". */
void plan_finding_text(const plan_finding *f, char *text, size_t cap);

#endif
