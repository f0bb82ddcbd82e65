/* tally.h - end of a micro-batch, after its backward pass: adds its loss to the loss of the step, its squared errors to
 * those of the step by noise level, its bounds to that of the step, and advances the run to the next samples. */
#ifndef DDPM_TALLY_H
#define DDPM_TALLY_H
#include "math/elementary.h"
#include "reduce.h"
#include "train_state.h"

typedef struct tally_args {
    const float *loss, *error; /* [n]  of each image (loss.h) */
    const float *rows;         /* [n, TABLE_COLUMNS] */
    train_state *state;        /* loss_sum += scale * sum of loss; sample += advance */
    int n;
    double scale;     /* 1 / (n * micro-batches of a step * ranks) */
    uint64_t advance; /* number of samples processed by all ranks together */
    const float *vb;  /* [n]  the bound of each image (loss.h); NULL: none */
    /* Of importance sampling (loss_history.h), or NULL: the factor of each loss in the sum and the level of each image, [n];
     * the losses without it and the levels of a step's images, [per_step, 2], image of ordinal number i at i mod per_step */
    const float *factor, *level;
    float *seen;
    int per_step;
} tally_args;

enum { TALLY_LANES = REDUCE_LANES / TRAIN_LEVELS }; /* lanes that share a noise level */

HD double tally_loss(const tally_args *a, int i)
{
    return a->factor ? (double)a->factor[i] * (double)a->loss[i] : (double)a->loss[i];
}

/* Keeps the loss of image i; before tally_finish(). */
HD void tally_keep(const tally_args *a, int i)
{
    const uint64_t at = (a->state->sample + (uint64_t)i) % (uint64_t)a->per_step;
    a->seen[2 * at] = a->loss[i], a->seen[2 * at + 1] = a->level[i];
}

HD void tally_finish(const tally_args *a, double sum)
{
    a->state->loss_sum += a->scale * sum;
    a->state->sample += a->advance;
}

/* Lane `lane` of REDUCE_LANES: the errors of every TALLY_LANES-th image that are finite and of the lane's level. */
HD void tally_lane(const tally_args *a, int lane, double *error, double *images)
{
    const float level = (float)(lane / TALLY_LANES);
    *error = *images = 0.0;
    for (int i = lane % TALLY_LANES; i < a->n; i += TALLY_LANES) {
        const double miss = (double)a->error[i];
        if (a->rows[(int64_t)i * TABLE_COLUMNS + TABLE_LEVEL] == level && is_finite(miss))
            *error += miss, *images += 1.0;
    }
}

/* Adds the lanes of a level, in order. */
HD void tally_level(const tally_args *a, int level, const double *error, const double *images)
{
    double sum = 0.0, count = 0.0;
    for (int l = level * TALLY_LANES; l < (level + 1) * TALLY_LANES; l++) sum += error[l], count += images[l];
    a->state->step_error[level] += sum;
    a->state->step_images[level] += count;
}

/* Lane `lane` of REDUCE_LANES of the bounds that are finite. */
HD void tally_vb_lane(const tally_args *a, int lane, double *vb, double *images)
{
    *vb = *images = 0.0;
    for (int i = lane; i < a->n; i += REDUCE_LANES)
        if (is_finite((double)a->vb[i])) *vb += (double)a->vb[i], *images += 1.0;
}

HD void tally_vb_finish(const tally_args *a, double vb, double images)
{
    a->state->step_vb += vb;
    a->state->step_vb_images += images;
}

static inline void tally_one(const tally_args *a) /* on a CPU */
{
    double lane[REDUCE_LANES] = {0.0}, images[REDUCE_LANES];
    for (int i = 0; i < a->n; i++) lane[i % REDUCE_LANES] += tally_loss(a, i);
    for (int i = 0; i < a->n && a->seen; i++) tally_keep(a, i);
    tally_finish(a, reduce_lanes(lane));
    for (int l = 0; l < REDUCE_LANES; l++) tally_lane(a, l, &lane[l], &images[l]);
    for (int k = 0; k < TRAIN_LEVELS; k++) tally_level(a, k, lane, images);
    if (!a->vb) return;
    for (int l = 0; l < REDUCE_LANES; l++) tally_vb_lane(a, l, &lane[l], &images[l]);
    const double vb = reduce_lanes(lane);
    tally_vb_finish(a, vb, reduce_lanes(images));
}

C_API ddpm_status k_tally(void *stream, const tally_args *a); /* asynchronous */

#endif
