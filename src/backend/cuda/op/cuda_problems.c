#include "backend/cuda/op/cuda_problems.h"

int cuda_conv_problems(const step *s, bool tf32, unsigned disabled, conv_problem *out, int cap)
{
    conv_problem q;
    if (!cuda_conv2d_problem(s, disabled, &q) && !cuda_upconv_problem(s, disabled, &q)) return 0;
    q.tf32 = tf32 && q.io == DTYPE_F32;
    if (cap > 0) *out = q;
    return 1;
}
