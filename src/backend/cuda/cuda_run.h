/* cuda_run.h - steps as CUDA graphs: captured once, replayed after, with a side stream for steps that allow it. */
#ifndef DDPM_CUDA_RUN_H
#define DDPM_CUDA_RUN_H
#include "backend/cuda/cuda_backend.h"

/* Runs the n steps in order, the whole list `times` times; returns before the device is done. */
DDPM_MUST_CHECK ddpm_status cuda_run_steps(cuda_backend *be, step *const *steps, int n, int times, err *e);
void cuda_forget_graphs(cuda_backend *be, const step *s); /* the graphs that contain the step; NULL: all graphs */

#endif
