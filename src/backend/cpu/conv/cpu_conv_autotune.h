/* cpu_conv_autotune.h - chooses between Winograd (cpu_winograd.h) and oneDNN's direct convolution.
 *
 * Both are timed once for every distinct 3x3 convolution, and the result is cached (backend/autotune_cache.h).
 * Winograd saves three quarters of the multiplications but has to transform images and filters: it wins except on
 * the smallest images. */
#ifndef DDPM_CONV_ALGO_AUTOTUNE_H
#define DDPM_CONV_ALGO_AUTOTUNE_H
#include "backend/backend.h"
#include "backend/cpu/conv/cpu_winograd.h"

typedef struct conv_autotune conv_autotune;

/* The key of the cache consists of the library, its instruction set, the processor and spec->threads. */
DDPM_MUST_CHECK ddpm_status conv_autotune_create(const backend_spec *spec, int threads, conv_autotune **out, err *e);
void conv_autotune_destroy(conv_autotune *c); /* accepts NULL */
/* to the files; call before the first computation with the chosen algorithms */
void conv_autotune_save(conv_autotune *c);
const char *conv_autotune_warning(const conv_autotune *c); /* "": no warning */

/* The two algorithms for one convolution. */
typedef struct conv_candidates {
    onednn_conv_spec direct;
    winograd_spec winograd;
} conv_candidates;

DDPM_MUST_CHECK ddpm_status conv_autotune_choose(conv_autotune *c, onednn *d, const conv_candidates *ways,
                                                 bool *winograd, err *e);

/* Prints a line for each problem: its text, the choice, microseconds of Winograd and direct (0: read from the file). */
void conv_autotune_report(const conv_autotune *c, FILE *to);

#endif
