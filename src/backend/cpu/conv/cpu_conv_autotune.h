/* cpu_conv_autotune.h - by Winograd's algorithm (cpu_winograd.h), or by the sums it stands for (oneDNN's)?  Decided for every
 * distinct 3x3 convolution by timing both once, and remembered (backend/autotune_cache.h).
 *
 * Winograd's saves three quarters of the multiplications, and pays with transforms of images and filters: it wins but
 * for the smallest images. */
#ifndef DDPM_CONV_ALGO_AUTOTUNE_H
#define DDPM_CONV_ALGO_AUTOTUNE_H
#include "backend/backend.h"
#include "backend/cpu/conv/cpu_winograd.h"

typedef struct conv_autotune conv_autotune;

/* The library, its instruction set, the processor and spec->threads are the key of what is remembered. */
DDPM_MUST_CHECK ddpm_status conv_autotune_create(const backend_spec *spec, int threads, conv_autotune **out, err *e);
void conv_autotune_destroy(conv_autotune *c); /* takes NULL */
void conv_autotune_save(conv_autotune *c);    /* to the files, before anything is computed by what was chosen */
const char *conv_autotune_warning(const conv_autotune *c); /* "": nothing to say */

/* The two ways to compute one thing. */
typedef struct conv_candidates {
    onednn_conv_spec direct;
    winograd_spec winograd;
} conv_candidates;

DDPM_MUST_CHECK ddpm_status conv_autotune_choose(conv_autotune *c, onednn *d, const conv_candidates *ways,
                                                 bool *winograd, err *e);

/* A line for each: its text, what was chosen, microseconds of Winograd's and of the direct one (0: from the file). */
void conv_autotune_report(const conv_autotune *c, FILE *to);

#endif
