/* mse.h - the weighted squared error of the network's prediction, and its gradient.
 *
 *   target  = target_x0 x_0 + target_eps eps
 *   error_b = mean over the elements of  (pred - target)^2
 *   loss_b  = weight error_b
 *   dpred   = grad_scale 2 weight (pred - target)
 *   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), eq. 14, with the columns of train_state.h for other targets
 *
 * x_0 and eps are recomputed from the same random draws as in q_sample.h.  The loss is summed in double in the fixed
 * order of reduce.h. */
#ifndef DDPM_MSE_H
#define DDPM_MSE_H
#include "q_sample.h"
#include "reduce.h"

typedef struct mse_args {
    const void *pred;         /* [n, h, w, c]  of pred_type */
    const uint8_t *images;    /* the same pointer as for q_sample */
    const float *rows;        /* [n, TABLE_COLUMNS]  the same as for q_sample */
    const train_state *state; /* the same state as for q_sample */
    float *loss, *error;      /* [n] */
    void *dpred;              /* [n, h, w, c]  of pred_type.  NULL: not needed; may be pred */
    double *partial;          /* [n, mse_chunks()]  workspace of k_mse() */
    int n, h, w, c;
    int flip;         /* as for q_sample */
    float grad_scale; /* 1 / (n * h * w * c * micro-batches): the gradient of the mean loss of a step */
    storage pred_type;
    const int64_t *index; /* as for q_sample */
} mse_args;

/* Number of partial sums per image. */
HD int mse_chunks(int h, int w, int c) { return (int)reduce_chunks((int64_t)h * w * c); }

HD drawn_image mse_image(const mse_args *a, int b)
{
    const storage none = STORE_F32; /* unused: there is no xt */
    const q_sample_args as = {a->images, a->rows, a->state, 0, a->n, a->h, a->w, a->c, a->flip, none, a->index};
    return q_sample_image(&as, b);
}

/* Writes dpred of quad q of image b, given its draws, and returns the sum of its squared errors.  `type` is
 * pred_type, a parameter so that compilers can specialize on a constant. */
HD double mse_quad(const mse_args *a, const drawn_image *m, int b, int q, const float *eps, storage type)
{
    const int count = quad_count(m->d, q);
    const int64_t at = (int64_t)b * m->d + 4 * (int64_t)q;
    const float ta = m->row[TABLE_TARGET_X0], te = m->row[TABLE_TARGET_EPS], weight = m->row[TABLE_WEIGHT];
    const float slope = 2.0f * weight * a->grad_scale;
    float x0[4], pred[4], gradient[4];
    double square[4];
    clean_quad(m, q, x0);
    quad_load_as(pred, a->pred, type, at, count);
    for (int k = 0; k < 4; k++) {
        const float miss = pred[k] - (ta * x0[k] + te * eps[k]);
        gradient[k] = slope * miss;
        square[k] = k < count ? (double)(miss * miss) : 0.0;
    }
    if (a->dpred) quad_store_as(a->dpred, type, at, gradient, count);
    return square[0] + square[1] + (square[2] + square[3]);
}

/* Writes loss and error of image b, given the sum of its squared errors. */
HD void mse_finish(const mse_args *a, int b, double sum)
{
    const double mean = sum / ((double)a->h * a->w * a->c);
    a->error[b] = (float)mean;
    a->loss[b] = (float)((double)a->rows[(int64_t)b * TABLE_COLUMNS + TABLE_WEIGHT] * mean);
}

/* Partial sum number `chunk` of image m = mse_image(a, b), on a CPU, where pred is float. */
static inline double mse_chunk(const mse_args *a, const drawn_image *m, int b, int chunk)
{
    double lane[REDUCE_LANES] = {0.0};
    float eps[4 * REDUCE_LANES];
    const int quads = (int)quads_of(m->d);
    for (int turn = 0; turn < REDUCE_TURNS; turn++) {
        const int first = chunk * REDUCE_QUADS + turn * REDUCE_LANES;
        const int count = quads - first < REDUCE_LANES ? quads - first : REDUCE_LANES;
        noise_normals(m->seed, NOISE_TRAIN_EPS, m->ordinal, (uint32_t)first, count, eps);
        for (int l = 0; l < count; l++) lane[l] += mse_quad(a, m, b, first + l, eps + 4 * l, STORE_F32);
    }
    return reduce_lanes(lane);
}

/* Computes loss, error and dpred of image b on a CPU, without `partial`. */
static inline void mse_one(const mse_args *a, int b)
{
    const drawn_image m = mse_image(a, b);
    const int chunks = mse_chunks(a->h, a->w, a->c);
    double sum = 0.0;
    for (int chunk = 0; chunk < chunks; chunk++) sum += mse_chunk(a, &m, b, chunk);
    mse_finish(a, b, sum);
}

C_API ddpm_status k_mse(void *stream, const mse_args *a); /* asynchronous */

#endif
