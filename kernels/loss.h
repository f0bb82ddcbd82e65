/* loss.h - the loss of the network's prediction, its squared error, and its gradient.
 *
 *   target  = target_x0 x_0 + target_eps eps
 *   error_b = mean over the elements of  (pred - target)^2
 *   loss_b  = weight mean of rho(pred - target)
 *   dpred   = grad_scale factor weight rho'(pred - target),   rho = r^2 or another of loss_kind.h
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), eq. 14, with the columns of train_state.h for other targets
 *
 * A network that learns the variance of the reverse step has a second half of channels, v (variational_bound.h):
 *   vb      = bits per dimension of the step from x_t, the sum of the elements' nats / (d ln 2)
 *   hybrid:  loss + bound vb, of which vb trains v alone
 *   kl:      loss = bound vb, which trains the prediction, too
 *   Nichol & Dhariwal 2021 (arXiv:2102.09672), eq. 15; eq. 16, L_hybrid, with bound = T / 1000 in their code; eq. 4, L_vlb,
 *   with bound = T, as one of its T terms is drawn
 *
 * x_0 and eps are recomputed from the same random draws as in q_sample.h.  The loss is summed in double in the fixed
 * order of reduce.h. */
#ifndef DDPM_LOSS_H
#define DDPM_LOSS_H
#include "loss_kind.h"
#include "q_sample.h"
#include "reduce.h"
#include "variational_bound.h"

typedef struct loss_args {
    const void *pred;         /* [n, h, w, c]  of pred_type */
    const uint8_t *images;    /* the same pointer as for q_sample */
    const float *rows;        /* [n, TABLE_COLUMNS]  the same as for q_sample */
    const train_state *state; /* the same state as for q_sample */
    float *loss, *error;      /* [n] */
    void *dpred;              /* [n, h, w, c]  of pred_type.  NULL: not needed; may be pred */
    double *partial;          /* [n, loss_chunks(), LOSS_SUMS]  workspace of k_loss() */
    int n, h, w, c;
    int flip;         /* as for q_sample */
    float grad_scale; /* 1 / (n * h * w * c * micro-batches): the gradient of the mean loss of a step */
    storage pred_type;
    const int64_t *index; /* as for q_sample */
    loss_kind kind;
    float noise_offset;  /* as for q_sample */
    const float *factor; /* [n]  of the gradient, by importance sampling (loss_history.h).  NULL: 1 */
    /* of a learned variance */
    int learned;  /* pred and dpred are [n, h, w, 2c], F and v */
    int kl;       /* the bound is the loss, and trains F too */
    double bound; /* factor of the bound in the loss */
    float *vb;    /* [n]  the bound, in bits per dimension */
} loss_args;

typedef struct loss_sums {
    double error, loss; /* of (pred - target)^2 and rho(pred - target) */
    double nats;        /* of the bound, if learned */
} loss_sums;
enum { LOSS_SUMS = 3 };

/* The arguments for image b, whose factor is part of their grad_scale. */
HD loss_args loss_args_of(const loss_args *a, int b)
{
    loss_args one = *a;
    if (a->factor) one.grad_scale = a->grad_scale * a->factor[b];
    one.factor = 0;
    return one;
}

/* Number of partial sums per image. */
HD int loss_chunks(int h, int w, int c) { return (int)reduce_chunks((int64_t)h * w * c); }

HD drawn_image loss_image(const loss_args *a, int b)
{
    const storage none = STORE_F32; /* unused: there is no xt */
    const q_sample_args as = {a->images, a->rows,  a->state,        0,    a->n, a->h, a->w, a->c, a->flip,
                              none,      a->index, a->noise_offset, 0.0f, 0u};
    return q_sample_image(&as, b);
}

/* Writes dpred of quad q of image b, given its draws and a = loss_args_of(b), and returns its sums; for l2 they are equal.
 * `kind` is a->kind, a parameter so that compilers can specialize on a constant. */
HD loss_sums loss_quad(const loss_args *a, const drawn_image *m, int b, int q, const float *eps, loss_kind kind)
{
    const int count = quad_count(m->d, q);
    const int64_t at = (int64_t)b * m->d + 4 * (int64_t)q;
    const float ta = m->row[TABLE_TARGET_X0], te = m->row[TABLE_TARGET_EPS], c = m->row[TABLE_HUBER];
    const float factor = m->row[TABLE_WEIGHT] * a->grad_scale;
    float x0[4], pred[4], gradient[4];
    double square[4], rho[4];
    clean_quad(m, q, x0);
    quad_load_as(pred, a->pred, a->pred_type, at, count);
    for (int k = 0; k < 4; k++) {
        const float miss = pred[k] - (ta * x0[k] + te * eps[k]);
        const loss_cost cost = loss_cost_of(kind, c, miss);
        gradient[k] = factor * cost.slope;
        square[k] = k < count ? (double)(miss * miss) : 0.0;
        rho[k] = k < count ? (double)cost.value : 0.0;
    }
    if (a->dpred) quad_store_as(a->dpred, a->pred_type, at, gradient, count);
    const loss_sums sums = {square[0] + square[1] + (square[2] + square[3]), rho[0] + rho[1] + (rho[2] + rho[3]), 0.0};
    return sums;
}

/* The bound's term of an element whose step has a mean that is off by `gap` (variational_bound.h). */
HD bound_term bound_of_row(const float *row, double x0, double gap, double v)
{
    const double d = bound_range(v, (double)row[TABLE_LOG_SPAN]), log_variance = (double)row[TABLE_LOG_VARIANCE];
    if (row[TABLE_DECODER] > 0.0f) return bound_decoder(x0, gap, log_variance + d);
    return bound_between(d, gap, log_variance);
}

/* Element i of F of image b of d elements; v of the same is c elements further, if there are two halves. */
HD int64_t prediction_at(int halves, int b, int d, int c, int i)
{
    return halves * ((int64_t)b * d + i / c * c) + i % c;
}

/* Writes the gradients of quad q of image b, F's and v's, given its draws and a = loss_args_of(b), and returns its sums. */
HD loss_sums loss_learned_quad(const loss_args *a, const drawn_image *m, int b, int q, const float *eps)
{
    const float *row = m->row;
    const int count = quad_count(m->d, q);
    const float ta = row[TABLE_TARGET_X0], te = row[TABLE_TARGET_EPS], huber = row[TABLE_HUBER];
    const double scale = a->bound * BOUND_BITS * (double)a->grad_scale, span = (double)row[TABLE_LOG_SPAN];
    const double by_miss = -(double)row[TABLE_X0_WEIGHT] * (double)row[TABLE_C_OUT]; /* slope of the gap */
    loss_sums sums = {0.0, 0.0, 0.0};
    float x0[4];
    clean_quad(m, q, x0);
    UNROLL(1)
    for (int k = 0; k < count; k++) {
        const int64_t at = prediction_at(2, b, m->d, a->c, 4 * q + k);
        const float clean = quad_pick(x0, k);
        const float miss = load_at(a->pred, a->pred_type, at) - (ta * clean + te * quad_pick(eps, k));
        const float v = load_at(a->pred, a->pred_type, at + a->c);
        const bound_term term = bound_of_row(row, (double)clean, by_miss * (double)miss, (double)v);
        const loss_cost cost = loss_cost_of(a->kind, huber, miss);
        sums.error += (double)(miss * miss);
        sums.loss += (double)cost.value;
        sums.nats += term.nats;
        if (!a->dpred) continue;
        const float dF =
            a->kl ? (float)(scale * by_miss * term.by_gap) : row[TABLE_WEIGHT] * a->grad_scale * cost.slope;
        store_at(a->dpred, a->pred_type, at, dF);
        store_at(a->dpred, a->pred_type, at + a->c, (float)(scale * 0.5 * span * term.by_log_variance));
    }
    return sums;
}

/* Writes loss and error of image b, given its sums. */
HD void loss_finish(const loss_args *a, int b, const loss_sums *sums)
{
    const double d = (double)a->h * a->w * a->c;
    const double weighted = (double)a->rows[(int64_t)b * TABLE_COLUMNS + TABLE_WEIGHT] * (sums->loss / d);
    a->error[b] = (float)(sums->error / d);
    if (!a->learned) {
        a->loss[b] = (float)weighted;
        return;
    }
    const double vb = sums->nats * BOUND_BITS / d;
    a->vb[b] = (float)vb;
    a->loss[b] = (float)(a->kl ? a->bound * vb : weighted + a->bound * vb);
}

/* Partial sums number `chunk` of image m = loss_image(a, b), on a CPU, where pred is float. */
static inline loss_sums loss_chunk(const loss_args *a, const drawn_image *m, int b, int chunk, loss_kind kind)
{
    double error[REDUCE_LANES] = {0.0}, loss[REDUCE_LANES] = {0.0}, nats[REDUCE_LANES] = {0.0};
    float eps[4 * REDUCE_LANES];
    const int quads = (int)quads_of(m->d);
    for (int turn = 0; turn < REDUCE_TURNS; turn++) {
        const int first = chunk * REDUCE_QUADS + turn * REDUCE_LANES;
        const int count = quads - first < REDUCE_LANES ? quads - first : REDUCE_LANES;
        eps_block(m, first, count, eps);
        for (int l = 0; l < count; l++) {
            const loss_sums one = a->learned ? loss_learned_quad(a, m, b, first + l, eps + 4 * l)
                                             : loss_quad(a, m, b, first + l, eps + 4 * l, kind);
            error[l] += one.error, loss[l] += one.loss, nats[l] += one.nats;
        }
    }
    const loss_sums sums = {reduce_lanes(error), reduce_lanes(loss), a->learned ? reduce_lanes(nats) : 0.0};
    return sums;
}

/* Computes loss, error and dpred of image b on a CPU, without `partial`. */
static inline void loss_one(const loss_args *a, int b)
{
    const loss_args of_b = loss_args_of(a, b);
    const drawn_image m = loss_image(a, b);
    const int chunks = loss_chunks(a->h, a->w, a->c);
    loss_sums sums = {0.0, 0.0, 0.0};
    for (int chunk = 0; chunk < chunks; chunk++) {
        const loss_sums part =
            a->kind == LOSS_L2 ? loss_chunk(&of_b, &m, b, chunk, LOSS_L2) : loss_chunk(&of_b, &m, b, chunk, a->kind);
        sums.error += part.error, sums.loss += part.loss, sums.nats += part.nats;
    }
    loss_finish(a, b, &sums);
}

C_API ddpm_status k_loss(void *stream, const loss_args *a); /* asynchronous */

#endif
