/* cpu_choice.h - by Winograd's algorithm, or by the sums it stands for?  Decided for every distinct 3x3
 * convolution in blocks of channels by timing both once, and remembered (backend/plan_cache.h).
 *
 * Winograd's F(4x4, 3x3) (Lavin & Gray 2016, arXiv:1509.09308) saves three quarters of the multiplications, and
 * pays with transforms of images and filters: it wins on large images and many channels. */
#ifndef DDPM_CPU_CHOICE_H
#define DDPM_CPU_CHOICE_H
#include "backend/backend.h"
#include "backend/cpu/cpu_dnnl.h"

typedef struct cpu_choices cpu_choices;

/* The library, its instruction set, the processor and spec->threads are the key of what is remembered. */
DDPM_MUST_CHECK ddpm_status cpu_choices_create(const backend_spec *spec, int threads, cpu_choices **out, err *e);
void cpu_choices_destroy(cpu_choices *c);             /* takes NULL */
void cpu_choices_save(cpu_choices *c);                /* to the files, before anything is computed by what was chosen */
const char *cpu_choices_remark(const cpu_choices *c); /* "": nothing to say */

/* *winograd: how to run such a convolution, 3x3 of stride 1 in blocks.  Where there is no kernel of Winograd's for it,
 * it may be true nevertheless. */
DDPM_MUST_CHECK ddpm_status cpu_choose(cpu_choices *c, dnn *d, const dnn_conv_spec *spec, bool *winograd, err *e);

/* A line for each: its text, what was chosen, microseconds of Winograd's and of the direct one (0: from the file). */
void cpu_choices_report(const cpu_choices *c, FILE *to);

#endif
