/* cuda_problems.h - the library problems of a step, listed without a device. */
#ifndef DDPM_CUDA_PROBLEMS_H
#define DDPM_CUDA_PROBLEMS_H
#include "backend/cuda/lib/cudnn_problem.h"
#include "ir/step.h"

/* Each writes at most `cap` problems and returns their number. */
int cuda_conv_problems(const step *s, bool tf32, unsigned disabled, conv_problem *out, int cap);
int cuda_attention_problems(const step *s, unsigned disabled, attention_problem *out, int cap);
int cuda_conv2d_problem(const step *s, unsigned disabled, conv_problem *out); /* 0: no problem, or another op */
int cuda_upconv_problem(const step *s, unsigned disabled, conv_problem *out);

#endif
