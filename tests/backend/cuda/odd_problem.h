/* odd_problem.h - a convolution problem for the tests of calls to cuDNN. */
#ifndef DDPM_TESTS_ODD_PROBLEM_H
#define DDPM_TESTS_ODD_PROBLEM_H
#include "backend/cuda/lib/cudnn_opgraph.h"

/* All sizes differ; stride 2 from 8x12 to 4x6, padded only below and on the right. */
static inline conv_problem odd_problem(conv_pass pass)
{
    return (conv_problem){.shape = {.pass = pass,
                                    .n = 2,
                                    .h = 8,
                                    .w = 12,
                                    .cin = 16,
                                    .oh = 4,
                                    .ow = 6,
                                    .cout = 24,
                                    .kernel = 3,
                                    .stride = 2,
                                    .pad_end = 1},
                          .io = DTYPE_BF16};
}

#endif
