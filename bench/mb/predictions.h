/* predictions.h - performance predictions, made before any measurement.
 *
 * Computed from the networks' shapes and an H200's ceilings: 790 TFLOP/s in bf16, 400 in TF32, 4.3 TB/s.
 * A missed prediction, in either direction, needs an explanation. */
#ifndef DDPM_PREDICTIONS_H
#define DDPM_PREDICTIONS_H

/* Ceilings assumed by the predictions: TFLOP/s, 1e9 bytes/s. */
#define PEAK_BF16_TFLOPS 790.0
#define PEAK_TF32_TFLOPS 400.0
#define PEAK_GB          4300.0

/* Convolutions: share of the peak of their type if the tiles fill the device. */
#define CONV_FORWARD_SHARE 0.68
#define CONV_DATA_SHARE    0.62
#define CONV_FILTER_SHARE  0.55

/* One-pass normalization: share of the copy bandwidth; tensors read and written, forward and backward. */
#define NORM_SHARE          0.85
#define NORM_FORWARD_MOVES  2 /* x; y */
#define NORM_BACKWARD_MOVES 3 /* x, dy; dx */

/* The folded 4x4 transposed convolution has 16/36 of the work: wins above this share of the 3x3's FLOP rate. */
#define UP_RATE_SHARE 0.45

/* A whole step as a graph: wall clock over the sum of the kernels' times; gap between kernels in microseconds. */
#define GRAPH_WALL_OVER_SUM 1.05
#define GRAPH_GAP_US        1.0

typedef struct predicted_step {
    const char *config; /* "configs/<config>.yaml" */
    int batch;
    double training_ms, floor_ms; /* bf16: time of the whole step; its lower bound */
    int kernels;                  /* kernels of a step */
    double overlap_ms;            /* time saved by the side stream */
    int sample_batch[3];
    double sample_ms[3]; /* one network evaluation at that batch size */
} predicted_step;

static const predicted_step predicted_steps[] = {
    {"cifar10", 128, 12.2, 7.30, 415, 0.2, {16, 64, 256}, {0.76, 1.88, 6.85}},
    {"unet64", 32, 4.40, 2.52, 475, 0.3, {64, 0, 0}, {2.45, 0, 0}}, /* counted without convolutions between levels */
    {"lsun256", 16, 62.0, 40.7, 565, 0.0, {0, 0, 0}, {0, 0, 0}},
};
enum { PREDICTED_STEPS = sizeof predicted_steps / sizeof predicted_steps[0] };

#endif
