/* instruction_set.h - the vector instruction set of the build and of the processor, by name:
 * "SSE2", "SSE4.2", "AVX2" (with FMA), "AVX-512" (F, BW, DQ and VL), "NEON". */
#ifndef DDPM_INSTRUCTION_SET_H
#define DDPM_INSTRUCTION_SET_H

const char *instruction_set_compiled(void); /* the target of this build */
const char *instruction_set_here(void);     /* the best one that this processor supports */

#endif
