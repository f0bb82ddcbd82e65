/* plan_compare.h - checks a backend: runs the steps of a plan one by one, each also on a second backend.
 *
 * A step on the second backend gets the operands that the step of the plan had before it ran, so that errors do not add
 * up: the first step that computes something else is named. */
#ifndef DDPM_PLAN_COMPARE_H
#define DDPM_PLAN_COMPARE_H
#include "plan/plan.h"

typedef struct plan_bounds {
    float low; /* largest difference of results of the backend's activation type */
    float f32; /* and of results in f32, both relative to the largest value of a result */
} plan_bounds;

/* Runs the whole plan once.  All memory of p is allocated and bound; `reference` computes in f32 in host memory.
 * DDPM_EDIVERGED: "<layer> (<op>): <result> differs from ..."; other statuses: a step could not run. */
DDPM_MUST_CHECK ddpm_status plan_compare(const plan *p, backend *reference, plan_bounds bounds, err *e);

#endif
