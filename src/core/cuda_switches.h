/* cuda_switches.h - every optimization of the cuda backend that can be left out, to measure what it gives.
 *
 * SWITCH(NAME, word, bit): the word of cuda.without; CUDA_NO_NAME is its bit in backend_spec.debug.  The
 * option, the recipe, the backend and the tests are made from this list; bench/mb/mb_overlap.c measures them. */
#ifndef DDPM_CUDA_SWITCHES_H
#define DDPM_CUDA_SWITCHES_H

#define CUDA_SWITCH_LIST(SWITCH)                                                                                       \
    /* launch every step by itself instead of replaying a graph */                                                     \
    SWITCH(GRAPH, graph, 1)                                                                                            \
    /* all steps on one stream */                                                                                      \
    SWITCH(SIDE, side, 2)                                                                                              \
    /* upsample, then the 3x3 convolution, instead of the folded 4x4 one */                                            \
    SWITCH(UPCONV, upconv, 4)                                                                                          \
    /* attention from products instead of cuDNN's fused one */                                                         \
    SWITCH(SDPA, sdpa, 8)                                                                                              \
    /* bias and residual by kernels of their own */                                                                    \
    SWITCH(EPILOGUE, epilogue, 16)                                                                                     \
    /* the libraries' first plan instead of the fastest */                                                             \
    SWITCH(TUNING, tuning, 32)                                                                                         \
    /* replay the body of a sampling loop instead of a WHILE node */                                                   \
    SWITCH(LOOP, loop, 64)                                                                                             \
    /* bias gradients by a pass of their own, not the norm's */                                                        \
    SWITCH(BIAS_SUMS, bias_sums, 128)                                                                                  \
    /* the time embedding and its layers by kernels of their own */                                                    \
    SWITCH(TIME_MLP, time_mlp, 256)                                                                                    \
    /* x and the skip concatenated in memory instead of read side by side */                                           \
    SWITCH(CONCAT, concat, 512)                                                                                        \
    /* a product for each time projection instead of one for all */                                                    \
    SWITCH(PROJECTIONS, projections, 1024)                                                                             \
    /* what is added to goes by way of scratch, not by beta = 1 */                                                     \
    SWITCH(BETA, beta, 2048)

/* "none|graph|side|...", for options.def */
#define CUDA_SWITCH_WORD(NAME, word, bit) "|" #word
#define CUDA_SWITCH_WORDS                 "none" CUDA_SWITCH_LIST(CUDA_SWITCH_WORD)

#endif
