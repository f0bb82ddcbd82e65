/* cpu_dropout.h - dropout of a range of channels (kernels/dropout.h), for norm_act. */
#ifndef DDPM_CPU_DROPOUT_H
#define DDPM_CPU_DROPOUT_H
#include "dropout.h"

enum { DROPOUT_CHANNELS = 64 }; /* maximum width of a range */

/* The channels [from, from + width) of all pixels of an image with c channels. */
typedef struct dropout_range {
    int64_t image, pixels, c, from;
    int width;
} dropout_range;

/* y = dropout(x): the range at pixel i begins at x + i x_step and y + i y_step.  y may be x. */
void cpu_dropout(const dropout_mask *m, const dropout_range *r, const float *x, int64_t x_step, float *y,
                 int64_t y_step);

#endif
