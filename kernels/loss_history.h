/* loss_history.h - importance sampling of the noise levels by the losses of their last images.
 *
 *   w_t = sqrt(mean of the last 10 losses^2 at t),  p_t = 0.999 w_t / sum of w + 0.001 / T,  loss / (T p_t) is trained
 *   Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 18, and their code, in which p is uniform until every t has 10 losses
 *
 * A step draws by the history that the steps before left.  Its own losses enter it at its end, in the order of the samples,
 * and none of them if the update is skipped: until then they are kept by sample (tally.h).  So the draws depend neither on how
 * a step is cut into micro-batches nor on threads, and a step that is not finite leaves no trace. */
#ifndef DDPM_LOSS_HISTORY_H
#define DDPM_LOSS_HISTORY_H
#include "reduce.h"
#include "train_state.h"
#include <math.h>

/* A row of the history: a ring of losses, and how many there are; from LOSSES_KEPT on that number counts in circles between
 * LOSSES_KEPT and 2 LOSSES_KEPT - 1, and modulo LOSSES_KEPT it is the place of the next loss. */
enum { LOSSES_KEPT = 10, HISTORY_COUNT = LOSSES_KEPT, HISTORY_COLUMNS };

/* ---- before the draw ---- */

typedef struct importance_args {
    const float *history; /* [T, HISTORY_COLUMNS] */
    int64_t *cumulative;  /* [T + 1]  as draw.h reads it */
    float *factor;        /* [T]  1 / (T p_t), of the p_t that `cumulative` rounds to */
    int T;                /* >= 1 */
} importance_args;

/* Lane l has the levels [l, l + 1) importance_chunk(T). */
HD int importance_chunk(int T) { return (T + REDUCE_LANES - 1) / REDUCE_LANES; }

HD double importance_weight(const float *row)
{
    double sum = 0.0;
    for (int k = 0; k < LOSSES_KEPT; k++) sum += (double)row[k] * (double)row[k];
    return sqrt(sum / LOSSES_KEPT);
}

/* The sum of the lane's weights, in order; -1 if one of its levels has too few losses. */
HD double importance_lane(const importance_args *a, int lane)
{
    const int chunk = importance_chunk(a->T), first = lane * chunk;
    double sum = 0.0;
    for (int t = first; t < first + chunk && t < a->T; t++) {
        const float *row = a->history + (int64_t)t * HISTORY_COLUMNS;
        if (row[HISTORY_COUNT] < (float)LOSSES_KEPT) return -1.0;
        sum += importance_weight(row);
    }
    return sum;
}

/* Replaces the lanes' sums by those of the lanes before, and returns the sum of all; 0, which stands for a uniform
 * distribution, if a lane is not ready or all losses are 0. */
HD double importance_scan(double *lane)
{
    double before = 0.0;
    for (int l = 0; l < REDUCE_LANES; l++) {
        const double sum = lane[l];
        if (sum < 0.0) return 0.0;
        lane[l] = before;
        before += sum;
    }
    return before;
}

/* cumulative[t], where `before` is the sum of the weights below t. */
HD int64_t importance_at(int t, int T, double before, double total)
{
    const double uniform = (double)t / T, share = total > 0.0 ? 0.999 * (before / total) + 0.001 * uniform : uniform;
    return t == T ? (int64_t)1 << 32 : (int64_t)(share * 4294967296.0 + 0.5);
}

/* Writes the lane's levels. */
HD void importance_fill(const importance_args *a, int lane, double before, double total)
{
    const int chunk = importance_chunk(a->T), first = lane * chunk;
    for (int t = first; t < first + chunk && t < a->T; t++) {
        const int64_t low = importance_at(t, a->T, before, total);
        if (total > 0.0) before += importance_weight(a->history + (int64_t)t * HISTORY_COLUMNS);
        const int64_t high = importance_at(t + 1, a->T, before, total);
        a->cumulative[t] = low;
        if (t + 1 == a->T) a->cumulative[a->T] = high;
        a->factor[t] = total > 0.0 ? (float)(4294967296.0 / ((double)a->T * (double)(high - low))) : 1.0f;
    }
}

static inline void importance_one(const importance_args *a) /* on a CPU */
{
    double lane[REDUCE_LANES];
    for (int l = 0; l < REDUCE_LANES; l++) lane[l] = importance_lane(a, l);
    const double total = importance_scan(lane);
    for (int l = 0; l < REDUCE_LANES; l++) importance_fill(a, l, lane[l], total);
}

C_API ddpm_status k_importance(void *stream, const importance_args *a); /* asynchronous */

/* ---- after the update ---- */

typedef struct remember_args {
    const float *seen;        /* [per_step, 2]  of sample number i, at i mod per_step: its loss and its level */
    const train_state *state; /* after the update */
    float *history;           /* [T, HISTORY_COLUMNS] */
    int per_step;             /* samples */
} remember_args;

HD void remember_loss(float *row, float loss)
{
    const int count = (int)row[HISTORY_COUNT];
    row[count % LOSSES_KEPT] = loss;
    row[HISTORY_COUNT] = (float)(count + 1 == 2 * LOSSES_KEPT ? LOSSES_KEPT : count + 1);
}

/* The losses of the levels t with t mod `of` = lane, in the order of the samples. */
HD void remember_lane(const remember_args *a, int lane, int of)
{
    const uint64_t first = a->state->sample - (uint64_t)a->per_step;
    int at = (int)(first % (uint64_t)a->per_step);
    if (a->state->clip == 0.0f) return; /* the update was skipped */
    for (int i = 0; i < a->per_step; i++, at = at + 1 == a->per_step ? 0 : at + 1) {
        const int t = (int)a->seen[2 * at + 1];
        if (t % of == lane) remember_loss(a->history + (int64_t)t * HISTORY_COLUMNS, a->seen[2 * at]);
    }
}

C_API ddpm_status k_remember(void *stream, const remember_args *a); /* asynchronous */

#endif
