#include "diffusion/sampler.h"

ddpm_status sampler_resample(sampler_table **t, int jump_length, int jump_n_sample, err *e)
{
    (void)t, (void)jump_length, (void)jump_n_sample;
    return err_set(e, DDPM_EINVAL, "resampling is not there yet");
}
