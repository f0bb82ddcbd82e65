/* tally.h - end of a micro-batch, after its backward pass: adds its loss to the loss of the step, and advances the
 * run to the next samples. */
#ifndef DDPM_TALLY_H
#define DDPM_TALLY_H
#include "reduce.h"
#include "train_state.h"

typedef struct tally_args {
    const float *loss;  /* [n]  one loss per image */
    train_state *state; /* loss_sum += scale * sum of loss; sample += advance */
    int n;
    double scale;     /* 1 / (n * micro-batches of a step * ranks) */
    uint64_t advance; /* number of samples processed by all ranks together */
} tally_args;

HD void tally_finish(const tally_args *a, double sum)
{
    a->state->loss_sum += a->scale * sum;
    a->state->sample += a->advance;
}

static inline void tally_one(const tally_args *a) /* on a CPU */
{
    double lane[REDUCE_LANES] = {0.0};
    for (int i = 0; i < a->n; i++) lane[i % REDUCE_LANES] += (double)a->loss[i];
    tally_finish(a, reduce_lanes(lane));
}

C_API ddpm_status k_tally(void *stream, const tally_args *a); /* asynchronous */

#endif
