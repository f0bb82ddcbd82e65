/* cuda_problems.h - the problems that a step puts to the libraries, for those who want to know them without a device. */
#ifndef DDPM_CUDA_PROBLEMS_H
#define DDPM_CUDA_PROBLEMS_H
#include "backend/cuda/lib/cudnn_problem.h"
#include "ir/step.h"

/* Each fills at most `cap` and returns how many there are. */
int cuda_conv_problems(const step *s, bool tf32, unsigned disabled, conv_problem *out, int cap);
int cuda_attention_problems(const step *s, unsigned disabled, attention_problem *out, int cap);
int cuda_conv2d_problem(const step *s, unsigned disabled, conv_problem *out); /* 0: none, or another op's */
int cuda_upconv_problem(const step *s, unsigned disabled, conv_problem *out);

#endif
