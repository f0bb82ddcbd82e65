/* predictions.h - what was predicted before any of it was measured.
 *
 * Counted from the networks' shapes and an H200's ceilings: 790 TFLOP/s in bf16, 400 in TF32, 4.3 TB/s.
 * A prediction that is missed, in either direction, is to be explained. */
#ifndef DDPM_PREDICTIONS_H
#define DDPM_PREDICTIONS_H

/* Ceilings that the predictions stand on: TFLOP/s, 1e9 bytes/s. */
#define PEAK_BF16_TFLOPS 790.0
#define PEAK_TF32_TFLOPS 400.0
#define PEAK_GB          4300.0

/* Convolutions, of the peak of their type, where the tiles fill the device. */
#define CONV_FORWARD_SHARE 0.68
#define CONV_DATA_SHARE    0.62
#define CONV_FILTER_SHARE  0.55

/* One-pass normalization, of the copy bandwidth; elements read and written forward and backward. */
#define NORM_SHARE          0.85
#define NORM_FORWARD_MOVES  2 /* x; y */
#define NORM_BACKWARD_MOVES 3 /* x, dy; dx */

/* The folded 4x4 transposed convolution has 16/36 of the work: it wins above this share of the 3x3's rate. */
#define UP_RATE_SHARE 0.45

/* A graph of the whole step: wall clock over the sum of its kernels. */
#define GRAPH_WALL_OVER_SUM 1.05
#define GRAPH_GAP_US        1.0

typedef struct predicted_step {
    const char *config; /* "configs/<config>.yaml" */
    int batch;
    double training_ms, floor_ms; /* bf16, whole step, and what no version of it can beat */
    int kernels;                  /* of a step */
    double overlap_ms;            /* gained by the second stream */
    int sample_batch[3];
    double sample_ms[3]; /* one network evaluation at that batch */
} predicted_step;

static const predicted_step predicted_steps[] = {
    {"cifar10", 128, 12.2, 7.30, 415, 0.2, {16, 64, 256}, {0.76, 1.88, 6.85}},
    {"unet64", 32, 4.40, 2.52, 475, 0.3, {64, 0, 0}, {2.45, 0, 0}}, /* counted without convolutions between levels */
    {"lsun256", 16, 62.0, 40.7, 565, 0.0, {0, 0, 0}, {0, 0, 0}},
};
enum { PREDICTED_STEPS = sizeof predicted_steps / sizeof predicted_steps[0] };

#endif
