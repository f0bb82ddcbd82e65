/* draw.h - what each image of a micro-batch is trained with: its row of the training table, and its label.
 *
 *   t ~ U{0 .. T - 1}   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), algorithm 1, line 3; or by another distribution:
 *                       the t with cumulative[t] <= 2^32 u < cumulative[t + 1], u uniform in [0, 1)
 *   u = frac(base + ordinal / phi), phi the golden ratio, with `stratified`: every window of samples, whatever the batch, covers
 *                       [0, 1) evenly (Kronecker's sequence), like the strata of Kingma et al. 2021 (arXiv:2107.00630), app. I.1
 *   label = null with probability `label_dropout`, else the image's: Ho & Salimans 2022 (arXiv:2207.12598), algorithm 1
 *
 * The draws depend on the sample's ordinal number in the run (noise.h). */
#ifndef DDPM_DRAW_H
#define DDPM_DRAW_H
#include "noise.h"
#include "train_state.h"

typedef struct draw_args {
    const float *table;       /* [T, TABLE_COLUMNS] */
    const train_state *state; /* image b is sample number state->sample + b */
    const int64_t *labels;    /* [n]; with `index`, of a whole data set.  NULL: no labels */
    const int64_t *index;     /* [n]  position of image b in the data set; NULL: b */
    float *rows;              /* [n, TABLE_COLUMNS] */
    float *t;                 /* [n]  TABLE_TIME of the row */
    int64_t *label;           /* [n]  written if there are labels */
    int n, T;                 /* >= 1 */
    float label_dropout;      /* in [0, 1] */
    int null_label;           /* the label that stands for no class */
    int stratified;
    const int64_t *cumulative; /* [T + 1]  from 0 to 2^32, not decreasing.  NULL: uniform */
    const float *factors;      /* [T]  of importance sampling (loss_history.h).  NULL: none */
    float *factor, *level;     /* [n]  with `factors`: that of the row, and the number of the row */
} draw_args;

/* The words of a sample: 0 draws the timestep, 2 the dropout of its label. */
HD philox4 draw_words(const train_state *state, int b)
{
    const uint64_t ordinal = state->sample + (uint64_t)b;
    return noise_bits(state->seed, NOISE_TRAIN_T, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), 0);
}

/* 2^32 u of image b, whose random word is `word`. */
HD uint32_t draw_position(const draw_args *a, int b, uint32_t word)
{
    if (!a->stratified) return word;
    const uint32_t base = noise_bits(a->state->seed, NOISE_STRATIFY, 0, 0, 0).v[0];
    return base + (uint32_t)(a->state->sample + (uint64_t)b) * 2654435769u; /* 2^32 / phi */
}

/* The timestep at position `at`. */
HD int draw_timestep(const draw_args *a, uint32_t at)
{
    int low = 0, high = a->T; /* cumulative[low] <= at < cumulative[high] */
    if (!a->cumulative) return (int)noise_below(at, (uint32_t)a->T);
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (a->cumulative[middle] <= (int64_t)at)
            low = middle;
        else
            high = middle;
    }
    return low;
}

HD void draw_one(const draw_args *a, int b)
{
    const philox4 words = draw_words(a->state, b);
    const int t = draw_timestep(a, draw_position(a, b, words.v[0]));
    const float *from = a->table + (int64_t)t * TABLE_COLUMNS;
    float *row = a->rows + (int64_t)b * TABLE_COLUMNS;
    for (int k = 0; k < TABLE_COLUMNS; k++) row[k] = from[k];
    a->t[b] = row[TABLE_TIME];
    if (a->factors) a->factor[b] = a->factors[t], a->level[b] = (float)t;
    if (a->labels) {
        const int dropped = noise_uniform(words.v[2]) < a->label_dropout;
        a->label[b] = dropped ? a->null_label : a->labels[a->index ? a->index[b] : b];
    }
}

C_API ddpm_status k_draw(void *stream, const draw_args *a); /* asynchronous */

#endif
