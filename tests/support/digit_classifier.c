#include "support/digit_classifier.h"
#include "noise.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { HIDDEN = 128, DIGITS = 10, SEED = 20261201 };
#define RATE 0.02f /* of the first epoch; later ones have RATE / epoch */

struct digit_classifier {
    int d;
    float *w1; /* [d, HIDDEN]: a row for each pixel, so that dark pixels cost nothing */
    float b1[HIDDEN], w2[HIDDEN][DIGITS], b2[DIGITS];
};

/* He initialization: N(0, 2 / inputs). */
static void init(digit_classifier *c)
{
    const float s1 = sqrtf(2.0f / (float)c->d), s2 = sqrtf(2.0f / HIDDEN);
    for (int i = 0; i < c->d * HIDDEN; i += 4) {
        const normal4 z = noise_normal4(SEED, NOISE_PARAM_INIT, 1, 0, (uint32_t)i / 4);
        for (int k = 0; k < 4; k++) c->w1[i + k] = s1 * z.v[k];
    }
    for (int i = 0; i < HIDDEN * DIGITS; i += 4) {
        const normal4 z = noise_normal4(SEED, NOISE_PARAM_INIT, 2, 0, (uint32_t)i / 4);
        for (int k = 0; k < 4; k++) c->w2[(i + k) / DIGITS][(i + k) % DIGITS] = s2 * z.v[k];
    }
}

/* hidden = relu(W1 x + b1), logits = W2 hidden + b2. */
static void forward(const digit_classifier *c, const uint8_t *pixels, float *hidden, float *logits)
{
    for (int h = 0; h < HIDDEN; h++) hidden[h] = c->b1[h];
    for (int i = 0; i < c->d; i++) {
        const float x = (float)pixels[i] / 255;
        if (pixels[i] == 0) continue;
        for (int h = 0; h < HIDDEN; h++) hidden[h] += x * c->w1[i * HIDDEN + h];
    }
    for (int k = 0; k < DIGITS; k++) logits[k] = c->b2[k];
    for (int h = 0; h < HIDDEN; h++) {
        hidden[h] = fmaxf(hidden[h], 0);
        for (int k = 0; k < DIGITS; k++) logits[k] += hidden[h] * c->w2[h][k];
    }
}

/* The gradient of the cross-entropy by the logits: softmax(logits) less 1 at the label. */
static void to_gradient(float *logits, int label)
{
    float most = logits[0], sum = 0;
    for (int k = 1; k < DIGITS; k++) most = fmaxf(most, logits[k]);
    for (int k = 0; k < DIGITS; k++) sum += logits[k] = expf(logits[k] - most);
    for (int k = 0; k < DIGITS; k++) logits[k] = logits[k] / sum - (k == label);
}

static void learn(digit_classifier *c, const uint8_t *pixels, int label, float rate)
{
    float hidden[HIDDEN], back[HIDDEN], g[DIGITS];
    forward(c, pixels, hidden, g);
    to_gradient(g, label);
    for (int h = 0; h < HIDDEN; h++) {
        float sum = 0;
        for (int k = 0; k < DIGITS; k++) sum += c->w2[h][k] * g[k];
        back[h] = hidden[h] > 0 ? rate * sum : 0;
        for (int k = 0; k < DIGITS; k++) c->w2[h][k] -= rate * hidden[h] * g[k];
        c->b1[h] -= back[h];
    }
    for (int k = 0; k < DIGITS; k++) c->b2[k] -= rate * g[k];
    for (int i = 0; i < c->d; i++) {
        const float x = (float)pixels[i] / 255;
        if (pixels[i] == 0) continue;
        for (int h = 0; h < HIDDEN; h++) c->w1[i * HIDDEN + h] -= x * back[h];
    }
}

digit_classifier *digit_classifier_train(const dataset *images, int epochs)
{
    digit_classifier *c = calloc(1, sizeof *c);
    const uint8_t *pixels = dataset_pixels(images);
    const uint32_t n = (uint32_t)dataset_count(images);
    cr_assert_not_null(c);
    cr_assert_not_null(pixels);
    cr_assert_eq(dataset_c(images), 1);
    c->d = dataset_h(images) * dataset_w(images);
    c->w1 = calloc((size_t)c->d * HIDDEN, sizeof *c->w1);
    cr_assert_not_null(c->w1);
    init(c);
    for (int epoch = 1; epoch <= epochs; epoch++)
        for (uint32_t step = 0; step < n; step++) { /* drawn with replacement */
            const philox4 bits = noise_bits(SEED, NOISE_SHUFFLE, (uint32_t)epoch, 0, step);
            const uint32_t i = noise_below(bits.v[0], n);
            learn(c, pixels + (size_t)i * (size_t)c->d, dataset_label(images, i), RATE / (float)epoch);
        }
    return c;
}

void digit_classifier_destroy(digit_classifier *c)
{
    if (!c) return;
    free(c->w1);
    free(c);
}

int digit_classifier_read(const digit_classifier *c, const uint8_t *pixels)
{
    float hidden[HIDDEN], logits[DIGITS];
    int best = 0;
    forward(c, pixels, hidden, logits);
    for (int k = 1; k < DIGITS; k++)
        if (logits[k] > logits[best]) best = k;
    return best;
}
