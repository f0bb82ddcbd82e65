/* ref_train.c - references of the training ops: q_sample, loss, grad_norm and adamw. */
#include "noise.h"
#include "ref/ref_ops.h"

#include <math.h>

/* The random draws for image b. */
typedef struct drawn {
    uint32_t low, high; /* its ordinal in the run */
    int t;
    bool mirrored;
} drawn;

static drawn draw(const ref_batch *a, int b)
{
    const uint64_t ordinal = a->state->sample + (uint64_t)b, seed = a->state->seed;
    drawn r = {.low = (uint32_t)ordinal, .high = (uint32_t)(ordinal >> 32)};
    const double u = noise_bits(seed, NOISE_TRAIN_T, r.low, r.high, 0).v[0] / 0x1p32;
    r.t = (int)floor(u * a->timesteps);
    r.mirrored = a->flip && noise_bits(seed, NOISE_FLIP, r.low, r.high, 0).v[0] / 0x1p32 >= 0.5;
    return r;
}

/* x_0 and eps of element i of image b. */
static void element(const ref_batch *a, const drawn *r, int b, int i, double *x0, double *eps)
{
    const int column = i / a->c % a->w, row = i / a->c / a->w;
    const int from = (row * a->w + (r->mirrored ? a->w - 1 - column : column)) * a->c + i % a->c;
    *x0 = a->images[(int64_t)b * a->h * a->w * a->c + from] / 127.5 - 1;
    *eps = (double)noise_normal4(a->state->seed, NOISE_TRAIN_EPS, r->low, r->high, (uint32_t)(i / 4)).v[i % 4];
}

const float *ref_row(const ref_batch *a, int b) { return a->table + (int64_t)draw(a, b).t * TABLE_COLUMNS; }

void ref_q_sample(const ref_batch *a, double *xt, double *t)
{
    const int d = a->h * a->w * a->c;
    for (int b = 0; b < a->n; b++) {
        const drawn r = draw(a, b);
        const float *row = ref_row(a, b);
        t[b] = (double)row[TABLE_TIME];
        for (int i = 0; i < d; i++) {
            double x0, eps;
            element(a, &r, b, i, &x0, &eps);
            xt[(int64_t)b * d + i] = (double)row[TABLE_SIGNAL] * x0 + (double)row[TABLE_NOISE] * eps;
        }
    }
}

void ref_loss(const ref_batch *a, const double *pred, double scale, double *loss, double *dpred)
{
    const int d = a->h * a->w * a->c;
    for (int b = 0; b < a->n; b++) {
        const drawn r = draw(a, b);
        const float *row = ref_row(a, b);
        double sum = 0;
        for (int i = 0; i < d; i++) {
            double x0, eps;
            element(a, &r, b, i, &x0, &eps);
            const double target = (double)row[TABLE_TARGET_X0] * x0 + (double)row[TABLE_TARGET_EPS] * eps;
            const double miss = pred[(int64_t)b * d + i] - target, weight = (double)row[TABLE_WEIGHT];
            sum += weight * miss * miss;
            dpred[(int64_t)b * d + i] = scale * 2 * weight * miss;
        }
        loss[b] = sum / d;
    }
}

double ref_grad_norm(const ref_weights *a)
{
    double sum = 0;
    for (int64_t i = 0; i < a->count; i++) sum += a->g[i] * a->g[i];
    return sqrt(sum);
}

void ref_adamw(const ref_weights *a, const ref_optimizer *o)
{
    const double norm = ref_grad_norm(a);
    const double clip = o->max_grad_norm > 0 ? fmin(1, o->max_grad_norm / (norm + 1e-6)) : 1;
    for (int64_t i = 0; i < a->count; i++) {
        const double g = a->g[i] * clip;
        a->m[i] = o->beta1 * a->m[i] + (1 - o->beta1) * g;
        a->v[i] = o->beta2 * a->v[i] + (1 - o->beta2) * g * g;
        const double m = a->m[i] / (1 - pow(o->beta1, (double)o->updates));
        const double v = a->v[i] / (1 - pow(o->beta2, (double)o->updates));
        a->w[i] = a->w[i] - o->lr * o->weight_decay * a->w[i] - o->lr * m / (sqrt(v) + o->eps);
        if (a->ema) a->ema[i] = o->ema_decay * a->ema[i] + (1 - o->ema_decay) * a->w[i];
    }
}
