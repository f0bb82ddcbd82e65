/* tune_check.h - compares the results of two algos of a primitive on the same operands. */
#ifndef DDPM_TUNE_CHECK_H
#define DDPM_TUNE_CHECK_H
#include "backend/cuda/lib/primitive.h"

typedef struct check_spec {
    primitive *p;
    void *stream, *workspace;          /* workspace: enough for both algos */
    void *operand[PRIMITIVE_OPERANDS]; /* device memory; results are overwritten */
    const uint16_t *pattern;           /* initial values of results, as bf16 and as halves of f32 */
    size_t pattern_bytes;
} check_spec;

/* *difference: the largest |x - y|, relative to the largest |y|, over samples of all results x of `algo` and y of `other`.
 * Both start from the same results, once of the operands' magnitude and once of a magnitude that dominates the sum: an
 * algo that does not accumulate where it should, or accumulates where it should not, differs by about 1.  Infinity: only
 * one of x and y is finite. */
DDPM_MUST_CHECK ddpm_status tune_check(const check_spec *spec, int algo, int other, float *difference, err *e);
/* The largest difference that rounding explains: sums in f32 in another order or by another algorithm, factors rounded to
 * TF32 where that is allowed, results rounded to bf16. */
float tune_check_bound(const primitive *p);

#endif
