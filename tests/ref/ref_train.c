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

typedef struct ref_term {
    double nats, by_log_variance, by_gap;
} ref_term;

/* Between timesteps: the divergence of two normal distributions whose means are `gap` apart. */
static ref_term kl_term(double gap, double log_variance, double of_posterior)
{
    const double ratio = exp(of_posterior - log_variance), square = gap * gap * exp(-log_variance);
    return (ref_term){(log_variance - of_posterior - 1 + ratio + square) / 2, (1 - ratio - square) / 2,
                      gap * exp(-log_variance)};
}

static double cdf(double a) { return (1 + tanh(sqrt(2 / M_PI) * (a + 0.044715 * a * a * a))) / 2; }
static double density(double a)
{
    const double t = tanh(sqrt(2 / M_PI) * (a + 0.044715 * a * a * a));
    return (1 - t * t) / 2 * sqrt(2 / M_PI) * (1 + 3 * 0.044715 * a * a);
}

/* To the image: the mass of the byte's interval. */
static ref_term decoder_term(double x0, double gap, double log_variance)
{
    const double k = exp(-log_variance / 2), high = k * (gap + 1 / 255.0), low = k * (gap - 1 / 255.0);
    const bool first = x0<-0.999, last = x0> 0.999;
    const double P = (last ? 1 : cdf(high)) - (first ? 0 : cdf(low));
    const double up = last ? 0 : density(high), down = first ? 0 : density(low);
    if (P < 1e-12) return (ref_term){-log(1e-12), 0, 0};
    return (ref_term){-log(P), (up * high - down * low) / (2 * P), -k * (up - down) / P};
}

/* Of element i of an image, whose prediction misses by `miss`; *by_miss becomes the slope of the gap. */
static ref_term bound_term_of(const float *row, double x0, double miss, double v, double *by_miss)
{
    const double of_posterior = (double)row[TABLE_LOG_VARIANCE], log_beta = of_posterior + (double)row[TABLE_LOG_SPAN];
    const double share = (v + 1) / 2, log_variance = share * log_beta + (1 - share) * of_posterior;
    *by_miss = -(double)row[TABLE_X0_WEIGHT] * (double)row[TABLE_C_OUT];
    return row[TABLE_DECODER] == 1 ? decoder_term(x0, *by_miss * miss, log_variance)
                                   : kl_term(*by_miss * miss, log_variance, of_posterior);
}

void ref_loss(const ref_batch *a, const double *pred, double scale, double *loss, double *dpred)
{
    const int d = a->h * a->w * a->c, halves = a->learned ? 2 : 1;
    for (int b = 0; b < a->n; b++) {
        const drawn r = draw(a, b);
        const float *row = ref_row(a, b);
        double sum = 0, nats = 0;
        for (int i = 0; i < d; i++) {
            const int64_t at = ((int64_t)b * d + i / a->c * a->c) * halves + i % a->c;
            double x0, eps, by_miss;
            element(a, &r, b, i, &x0, &eps);
            const double target = (double)row[TABLE_TARGET_X0] * x0 + (double)row[TABLE_TARGET_EPS] * eps;
            const double miss = pred[at] - target, weight = (double)row[TABLE_WEIGHT];
            sum += weight * miss * miss;
            dpred[at] = scale * 2 * weight * miss;
            if (!a->learned) continue;
            const double bound = a->bound / log(2);
            const ref_term term =
                bound_term_of(row, x0, a->held ? a->held[at] - target : miss, pred[at + a->c], &by_miss);
            nats += term.nats;
            if (a->kl) dpred[at] = scale * bound * term.by_gap * by_miss;
            dpred[at + a->c] = scale * bound * term.by_log_variance * (double)row[TABLE_LOG_SPAN] / 2;
        }
        loss[b] = (a->kl ? 0 : sum / d) + (a->learned ? a->bound * nats / log(2) / d : 0);
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
