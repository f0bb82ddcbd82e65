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

/* What a training step launches.  tests/backend/emulated/test_launch_counts.c counts it on the emulated device and
 * fails where it differs.  Dropout as the configuration says: 0.1 for cifar10, none for the others. */
typedef struct predicted_launches {
    int own;                           /* our kernels */
    int convolutions, products;        /* calls of cuDNN and of cuBLASLt */
    int attention, attention_backward; /* calls of cuDNN's fused attention */
} predicted_launches;

/* Kernels of a call, assumed: engines that split a sum have a second one.  The backward pass of attention has one
 * before and one after the main kernel. */
#define CONVOLUTION_KERNELS        1
#define PRODUCT_KERNELS            1
#define ATTENTION_KERNELS          1
#define ATTENTION_BACKWARD_KERNELS 3

typedef struct predicted_step {
    const char *config; /* "configs/<config>.yaml" */
    int batch;
    double training_ms, floor_ms; /* bf16: time of the whole step; its lower bound */
    predicted_launches launches;
    double overlap_ms; /* time saved by the side stream */
    int sample_batch[3];
    double sample_ms[3]; /* one network evaluation at that batch size */
} predicted_step;

static const predicted_step predicted_steps[] = {
    {"cifar10", 128, 12.2, 7.30, {151, 155, 117, 6, 6}, 0.2, {16, 64, 256}, {0.76, 1.88, 6.85}},
    /* times computed without the convolutions between levels */
    {"unet64", 32, 4.40, 2.52, {222, 155, 153, 11, 11}, 0.3, {64, 0, 0}, {2.45, 0, 0}},
    {"lsun256", 16, 62.0, 40.7, {381, 227, 198, 0, 0}, 0.0, {0, 0, 0}, {0, 0, 0}},
};
enum { PREDICTED_STEPS = sizeof predicted_steps / sizeof predicted_steps[0] };

static inline int predicted_kernels(const predicted_step *p)
{
    return p->launches.own + CONVOLUTION_KERNELS * p->launches.convolutions + PRODUCT_KERNELS * p->launches.products +
           ATTENTION_KERNELS * p->launches.attention + ATTENTION_BACKWARD_KERNELS * p->launches.attention_backward;
}

#endif
