#include "backend/cpu/op/cpu_dropout.h"
#include "base/arith.h"

#include <string.h>

enum { OCTET = DROPOUT_OCTET, BATCH = 32, OCTETS = DROPOUT_CHANNELS / OCTET }; /* BATCH: pixels drawn at a time */

typedef float reals __attribute__((vector_size(OCTET * sizeof(float))));
typedef uint32_t words __attribute__((vector_size(OCTET * sizeof(uint32_t))));

/* What one image's draws share. */
typedef struct mask_source {
    uint64_t seed, ordinal;
    uint32_t layer, threshold;
    float scale;
} mask_source;

/* The words of octets first, first + step, ..., in a plain loop that compilers vectorize. */
static void draw(const mask_source *m, uint32_t first, uint32_t step, int octets, uint32_t *word)
{
    const uint64_t seed = m->seed, ordinal = m->ordinal;
    const uint32_t layer = m->layer;
    for (int o = 0; o < octets; o++) {
        const philox4 r = dropout_draw(seed, layer, ordinal, first + (uint32_t)o * step);
        for (int k = 0; k < 4; k++) word[4 * o + k] = r.v[k];
    }
}

/* Applies one draw to its eight elements, contiguous in memory. */
static inline void drop_octet(const float *x, float *y, const uint32_t w[4], uint32_t threshold, float scale)
{
    const words low_then_high = {0, 0, 0, 0, 16, 16, 16, 16};
    const words drawn = (words){w[0], w[1], w[2], w[3], w[0], w[1], w[2], w[3]} >> low_then_high & 0xFFFF;
    reals v;
    memcpy(&v, x, sizeof v);
    v = (reals)((words)(v * scale) & (words)(drawn >= threshold));
    memcpy(y, &v, sizeof v);
}

/* A range of whole octets of every pixel. */
static void drop_octets(const mask_source *m, const dropout_range *r, const float *x, int64_t x_step, float *y,
                        int64_t y_step)
{
    const int64_t per_pixel = r->c / OCTET, octets = r->width / OCTET;
    uint32_t word[OCTETS][BATCH * 4];
    for (int64_t from = 0; from < r->pixels; from += BATCH) {
        const int64_t n = min_i64(BATCH, r->pixels - from), first = from * per_pixel + r->from / OCTET;
        for (int64_t o = 0; o < octets; o++) draw(m, (uint32_t)(first + o), (uint32_t)per_pixel, (int)n, word[o]);
        for (int64_t i = 0; i < n; i++)
            for (int64_t o = 0; o < octets; o++)
                drop_octet(x + (from + i) * x_step + o * OCTET, y + (from + i) * y_step + o * OCTET, word[o] + 4 * i,
                           m->threshold, m->scale);
    }
}

/* Any range of one pixel: parts of octets. */
static void drop_elements(const mask_source *m, int64_t first, int width, const float *x, float *y)
{
    uint32_t word[4];
    for (int i = 0; i < width; i++) {
        const int64_t element = first + i;
        if (i == 0 || element % OCTET == 0) draw(m, (uint32_t)(element / OCTET), 0, 1, word);
        const uint32_t bits = word[element % 4] >> (element % OCTET < 4 ? 0 : 16) & 0xFFFFu;
        y[i] = bits >= m->threshold ? m->scale * x[i] : 0.0f;
    }
}

void cpu_dropout(const dropout_mask *mask, const dropout_range *r, const float *x, int64_t x_step, float *y,
                 int64_t y_step)
{
    const mask_source m = {.seed = mask->state->seed,
                           .ordinal = mask->state->sample + (uint64_t)r->image,
                           .layer = mask->layer,
                           .threshold = mask->threshold,
                           .scale = mask->scale};
    if (r->c % OCTET == 0 && r->from % OCTET == 0 && r->width % OCTET == 0) {
        drop_octets(&m, r, x, x_step, y, y_step);
        return;
    }
    for (int64_t i = 0; i < r->pixels; i++)
        drop_elements(&m, i * r->c + r->from, r->width, x + i * x_step, y + i * y_step);
}
