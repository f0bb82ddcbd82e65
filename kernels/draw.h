/* draw.h - what each image of a micro-batch is trained with: its row of the training table, and its label.
 *
 *   t ~ U{0 .. T - 1}   Ho, Jain & Abbeel 2020 (arXiv:2006.11239), algorithm 1, line 3
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
} draw_args;

/* The words of a sample: 0 draws the timestep, 2 the dropout of its label. */
HD philox4 draw_words(const train_state *state, int b)
{
    const uint64_t ordinal = state->sample + (uint64_t)b;
    return noise_bits(state->seed, NOISE_TRAIN_T, (uint32_t)ordinal, (uint32_t)(ordinal >> 32), 0);
}

HD void draw_one(const draw_args *a, int b)
{
    const philox4 words = draw_words(a->state, b);
    const float *from = a->table + (int64_t)noise_below(words.v[0], (uint32_t)a->T) * TABLE_COLUMNS;
    float *row = a->rows + (int64_t)b * TABLE_COLUMNS;
    for (int k = 0; k < TABLE_COLUMNS; k++) row[k] = from[k];
    a->t[b] = row[TABLE_TIME];
    if (a->labels) {
        const int dropped = noise_uniform(words.v[2]) < a->label_dropout;
        a->label[b] = dropped ? a->null_label : a->labels[a->index ? a->index[b] : b];
    }
}

C_API ddpm_status k_draw(void *stream, const draw_args *a); /* asynchronous */

#endif
