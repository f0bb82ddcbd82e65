/* ref_norm.c - reference of norm_act: group normalization and SiLU. */
#include "ref/ref_ops.h"

#include <math.h>

typedef struct source {
    const ref_norm *a;
    const double *x, *x2, *cond;
} source;

/* The input of the normalization: cat(x, x2), plus the addend. */
static double value(const source *s, int image, int i, int c)
{
    const ref_norm *a = s->a;
    const int64_t place = (int64_t)image * a->hw + i;
    const double x = c < a->c1 ? s->x[place * a->c1 + c] : s->x2[place * a->c2 + c - a->c1];
    return x + (a->cond == REF_ADD ? s->cond[image * (a->c1 + a->c2) + c] : 0);
}

static void statistics(const source *s, int image, int group, double *mean, double *deviation)
{
    const int width = (s->a->c1 + s->a->c2) / s->a->groups, from = group * width;
    double sum = 0, squares = 0;
    for (int i = 0; i < s->a->hw; i++)
        for (int c = from; c < from + width; c++) sum += value(s, image, i, c);
    *mean = sum / (s->a->hw * width);
    for (int i = 0; i < s->a->hw; i++)
        for (int c = from; c < from + width; c++) squares += pow(value(s, image, i, c) - *mean, 2);
    *deviation = sqrt(squares / (s->a->hw * width) + s->a->eps);
}

void ref_norm_act(const ref_norm *a, const double *x, const double *x2, const double *gamma, const double *beta,
                  const double *cond, double *y)
{
    const source s = {a, x, x2, cond};
    const int channels = a->c1 + a->c2, width = channels / a->groups;
    for (int image = 0; image < a->n; image++)
        for (int g = 0; g < a->groups; g++) {
            double mean, deviation;
            statistics(&s, image, g, &mean, &deviation);
            for (int i = 0; i < a->hw; i++)
                for (int c = g * width; c < (g + 1) * width; c++) {
                    double z = (value(&s, image, i, c) - mean) / deviation * gamma[c] + beta[c];
                    if (a->cond == REF_SCALE_SHIFT) {
                        const double *both = cond + (int64_t)image * 2 * channels;
                        z = z * (1 + both[c]) + both[channels + c];
                    }
                    y[((int64_t)image * a->hw + i) * channels + c] = a->silu ? z / (1 + exp(-z)) : z;
                }
        }
}
