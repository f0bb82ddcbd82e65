/* instruction_set.h - the instructions of a processor that compilers are told to use, by the names people know:
 * "SSE2", "SSE4.2", "AVX2" (with FMA), "AVX-512" (F, BW, DQ and VL), "NEON". */
#ifndef DDPM_INSTRUCTION_SET_H
#define DDPM_INSTRUCTION_SET_H

const char *instruction_set_compiled(void); /* what this program was compiled for */
const char *instruction_set_here(void);     /* the best of the list that this processor has */

#endif
