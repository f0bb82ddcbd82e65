/* cpu_conv_autotune.h - by Winograd's algorithm (cpu_winograd.h), or by the sums it stands for (oneDNN's)?  Decided for every
 * distinct 3x3 convolution by timing both once, and remembered (backend/autotune_cache.h).
 *
 * Winograd's saves three quarters of the multiplications, and pays with transforms of images and filters: it wins but
 * for the smallest images. */
#ifndef DDPM_CPU_CONV_AUTOTUNE_H
#define DDPM_CPU_CONV_AUTOTUNE_H
#include "backend/backend.h"
#include "backend/cpu/conv/cpu_winograd.h"

typedef struct cpu_choices cpu_choices;

/* The library, its instruction set, the processor and spec->threads are the key of what is remembered. */
DDPM_MUST_CHECK ddpm_status cpu_choices_create(const backend_spec *spec, int threads, cpu_choices **out, err *e);
void cpu_choices_destroy(cpu_choices *c);             /* takes NULL */
void cpu_choices_save(cpu_choices *c);                /* to the files, before anything is computed by what was chosen */
const char *cpu_choices_remark(const cpu_choices *c); /* "": nothing to say */

/* The two ways to compute one thing. */
typedef struct cpu_ways {
    dnn_conv_spec direct;
    winograd_spec winograd;
} cpu_ways;

DDPM_MUST_CHECK ddpm_status cpu_choose(cpu_choices *c, dnn *d, const cpu_ways *ways, bool *winograd, err *e);

/* A line for each: its text, what was chosen, microseconds of Winograd's and of the direct one (0: from the file). */
void cpu_choices_report(const cpu_choices *c, FILE *to);

#endif
