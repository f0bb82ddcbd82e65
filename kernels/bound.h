/* bound.h - the variational bound of a reverse step of given images, for evaluation: bits per dimension, and the error of
 * the predicted x_0.
 *
 *   x0_hat   = x_0 + c_out (pred - target), clipped to [-clip, clip]
 *   gap      = x0_weight (x_0 - x0_hat)
 *   vb       = mean over the elements of the term of variational_bound.h / ln 2
 *   x0_error = mean of (x0_hat - x_0)^2
 *   Nichol & Dhariwal 2021 (arXiv:2102.09672), section 3.1; calc_bpd_loop() of their code
 *
 * x_0 and eps are recomputed from the same random draws as in q_sample.h; the sums are those of reduce.h. */
#ifndef DDPM_BOUND_H
#define DDPM_BOUND_H
#include "loss.h"

typedef struct bound_args {
    const void *pred; /* [n, h, w, c], or [n, h, w, 2c] with a second half v  of pred_type */
    storage pred_type;
    const uint8_t *images; /* images, rows, state, index: the same as for q_sample */
    const float *rows;
    const train_state *state;
    const int64_t *index;
    uint32_t stream;
    float *vb, *x0_error; /* [n] */
    double *partial;      /* [n, loss_chunks(), BOUND_SUMS]  workspace of k_bound() */
    int n, h, w, c;
    int halves; /* 2: pred has a second half */
    int fixed;  /* v is that below, and the second half is not read */
    float v;    /* -1: the posterior's variance, 1: beta */
    float clip; /* of x0_hat; 0: none */
} bound_args;

typedef struct bound_sums {
    double nats, x0;
} bound_sums;
enum { BOUND_SUMS = 2 };

HD drawn_image bound_image(const bound_args *a, int b)
{
    const q_sample_args as = {a->images, a->rows, a->state,  0,        a->n, a->h, a->w,
                              a->c,      0,       STORE_F32, a->index, 0.0f, 0.0f, a->stream};
    return q_sample_image(&as, b);
}

HD bound_sums bound_quad(const bound_args *a, const drawn_image *m, int b, int q, const float *eps)
{
    const float *row = m->row;
    const int count = quad_count(m->d, q);
    bound_sums sums = {0.0, 0.0};
    float x0[4];
    clean_quad(m, q, x0);
    UNROLL(1)
    for (int k = 0; k < count; k++) {
        const int64_t at = prediction_at(a->halves, b, m->d, a->c, 4 * q + k);
        const float pixel = quad_pick(x0, k);
        const float target = row[TABLE_TARGET_X0] * pixel + row[TABLE_TARGET_EPS] * quad_pick(eps, k);
        const float miss = load_at(a->pred, a->pred_type, at) - target;
        const float v = a->fixed ? a->v : load_at(a->pred, a->pred_type, at + a->c);
        const double clean = (double)pixel, clip = (double)a->clip;
        double x0_hat = clean + (double)row[TABLE_C_OUT] * (double)miss;
        if (clip > 0.0) x0_hat = x0_hat < -clip ? -clip : x0_hat > clip ? clip : x0_hat; /* NaN stays NaN */
        const double off = clean - x0_hat;
        const bound_term term = bound_of_row(row, clean, (double)row[TABLE_X0_WEIGHT] * off, (double)v);
        sums.nats += term.nats;
        sums.x0 += off * off;
    }
    return sums;
}

HD void bound_finish(const bound_args *a, int b, const bound_sums *sums)
{
    const double d = (double)a->h * a->w * a->c;
    a->vb[b] = (float)(sums->nats * BOUND_BITS / d);
    a->x0_error[b] = (float)(sums->x0 / d);
}

/* Image b on a CPU, without `partial`. */
static inline void bound_one(const bound_args *a, int b)
{
    const drawn_image m = bound_image(a, b);
    const int quads = (int)quads_of(m.d), chunks = loss_chunks(a->h, a->w, a->c);
    bound_sums sums = {0.0, 0.0};
    for (int chunk = 0; chunk < chunks; chunk++) {
        double nats[REDUCE_LANES] = {0.0}, x0[REDUCE_LANES] = {0.0};
        float eps[4 * REDUCE_LANES];
        for (int first = chunk * REDUCE_QUADS; first < (chunk + 1) * REDUCE_QUADS && first < quads;
             first += REDUCE_LANES) {
            const int count = quads - first < REDUCE_LANES ? quads - first : REDUCE_LANES;
            eps_block(&m, first, count, eps);
            for (int l = 0; l < count; l++) {
                const bound_sums one = bound_quad(a, &m, b, first + l, eps + 4 * l);
                nats[l] += one.nats, x0[l] += one.x0;
            }
        }
        sums.nats += reduce_lanes(nats);
        sums.x0 += reduce_lanes(x0);
    }
    bound_finish(a, b, &sums);
}

C_API ddpm_status k_bound(void *stream, const bound_args *a); /* asynchronous */

#endif
