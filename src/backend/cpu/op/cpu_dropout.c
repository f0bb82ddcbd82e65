/* cpu_dropout.c - dropout: the mask is drawn in NHWC order (kernels/dropout.h) and applied in the tensor's layout. */
#include "backend/cpu/cpu_backend.h"
#include "backend/cpu/lib/cpu_layout.h"
#include "backend/step_args.h"

#include <string.h>

enum { OCTET = DROPOUT_OCTET, DRAWS = 32, SHARE = 4096 }; /* SHARE: elements per work item, whole blocks of channels */

typedef float reals __attribute__((vector_size(OCTET * sizeof(float))));
typedef uint32_t words __attribute__((vector_size(OCTET * sizeof(uint32_t))));

/* Applies one draw to its eight elements, contiguous in memory. */
static inline void drop_octet(const float *x, float *y, const uint32_t w[4], uint32_t threshold, float scale, bool add)
{
    const words low_then_high = {0, 0, 0, 0, 16, 16, 16, 16};
    const words drawn = (words){w[0], w[1], w[2], w[3], w[0], w[1], w[2], w[3]} >> low_then_high & 0xFFFF;
    reals v, old = {0};
    memcpy(&v, x, sizeof v);
    if (add) memcpy(&old, y, sizeof old);
    v = (reals)((words)(v * scale) & (words)(drawn >= threshold)) + old;
    memcpy(y, &v, sizeof v);
}

/* Applies the last, incomplete draw of an image. */
static void drop_rest(const dropout_args *a, const float *x, float *y, const uint32_t w[4], int64_t count)
{
    float in[OCTET] = {0}, out[OCTET];
    const size_t bytes = (size_t)count * sizeof *x;
    memcpy(in, x, bytes);
    memcpy(out, y, bytes);
    drop_octet(in, out, w, dropout_threshold(a), 1.0f / (1.0f - a->p), a->accumulate);
    memcpy(y, out, bytes);
}

static void drop_run(const dropout_args *a, const float *x, float *y, const uint32_t *w, int64_t count)
{
    const uint32_t threshold = dropout_threshold(a);
    const float scale = 1.0f / (1.0f - a->p);
    int64_t i = 0;
    if (a->accumulate)
        for (; i + OCTET <= count; i += OCTET) drop_octet(x + i, y + i, w + i / 2, threshold, scale, true);
    else
        for (; i + OCTET <= count; i += OCTET) drop_octet(x + i, y + i, w + i / 2, threshold, scale, false);
    if (i < count) drop_rest(a, x + i, y + i, w + i / 2, count - i);
}

/* Applies dropout to elements [from, from + count) of image b. */
static void drop(const dropout_args *a, const tensor *t, int b, int64_t from, int64_t count)
{
    const cpu_strides by = cpu_strides_of(t, t->layout);
    const float *x = (const float *)a->x + b * by.image;
    float *y = (float *)a->y + b * by.image;
    int64_t pixel = from / t->c, block = from % t->c / CHANNEL_BLOCK;
    for (int64_t at = from; at < from + count; at += DRAWS * OCTET) {
        uint32_t w[4 * DRAWS];
        const int64_t n = from + count - at < DRAWS * OCTET ? from + count - at : DRAWS * OCTET;
        dropout_words(a, b, (int)(at / OCTET), (int)octets_of(n), w);
        if (t->layout == LAYOUT_NHWC) {
            drop_run(a, x + at, y + at, w, n);
            continue;
        }
        for (int64_t i = 0; i < n; i += CHANNEL_BLOCK) {
            const int64_t place = block * by.block + pixel * by.pixel;
            drop_run(a, x + place, y + place, w + i / 2, CHANNEL_BLOCK);
            if (++block * CHANNEL_BLOCK == t->c) block = 0, pixel++;
        }
    }
}

static ddpm_status dropout_run(cpu_backend *be, const step *s, err *e)
{
    const tensor *x = s->in[POINT_X];
    const dropout_args a = step_dropout(s);
#pragma omp parallel for collapse(2) schedule(static)
    for (int b = 0; b < a.n; b++)
        for (int64_t from = 0; from < a.d; from += SHARE) drop(&a, x, b, from, a.d - from < SHARE ? a.d - from : SHARE);
    return DDPM_OK;
}

const cpu_op cpu_dropout = {NULL, dropout_run, NULL};
