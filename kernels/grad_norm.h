/* grad_norm.h - global L2 norm of the gradient, then the scalars of the update (update.h).
 *
 *   sum_sq = sum over all parameters of g^2, in double, in the fixed order of reduce.h */
#ifndef DDPM_GRAD_NORM_H
#define DDPM_GRAD_NORM_H
#include "reduce.h"
#include "update.h"

typedef struct grad_norm_args {
    const float *g;        /* [count] */
    double *partial;       /* [reduce_chunks(count)]  workspace */
    train_state *state;    /* advanced to the next step */
    train_record *history; /* [TRAIN_HISTORY]  NULL: none */
    int64_t count;         /* >= 1 */
    update_args update;
} grad_norm_args;

HD double grad_norm_quad(const float *all, int64_t count, int64_t q)
{
    float g[4];
    double square[4];
    quad_load(g, all + 4 * q, quad_count(count, q));
    for (int k = 0; k < 4; k++) square[k] = (double)g[k] * (double)g[k];
    return square[0] + square[1] + (square[2] + square[3]);
}

/* Ends the step, given the sum over all parameters. */
HD void grad_norm_close(const grad_norm_args *a, double sum_sq)
{
    train_state_update(a->state, sum_sq, &a->update);
    if (!a->history) return;
    train_record *r = a->history + (a->state->step - 1) % TRAIN_HISTORY;
    r->loss = a->state->loss;
    r->grad_norm = a->state->grad_norm;
    r->lr = a->state->lr;
    r->skipped = a->state->clip == 0.0f;
}

/* Computes partial[chunk] on a CPU; chunks are independent. */
static inline void grad_norm_chunk(const grad_norm_args *a, int64_t chunk)
{
    double lane[REDUCE_LANES] = {0.0};
    for (int turn = 0; turn < REDUCE_TURNS; turn++) {
        const int64_t first = chunk * REDUCE_QUADS + turn * REDUCE_LANES, left = quads_of(a->count) - first;
        const int count = left < REDUCE_LANES ? (int)left : REDUCE_LANES;
        for (int l = 0; l < count; l++) lane[l] += grad_norm_quad(a->g, a->count, first + l);
    }
    a->partial[chunk] = reduce_lanes(lane);
}

/* Call once, after all chunks. */
static inline void grad_norm_finish(const grad_norm_args *a)
{
    grad_norm_close(a, reduce_array(a->partial, reduce_chunks(a->count)));
}

C_API ddpm_status k_grad_norm(void *stream, const grad_norm_args *a); /* asynchronous */

#endif
