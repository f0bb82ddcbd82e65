#include "backend/cpu/conv/cpu_conv_thin.h"
#include "base/arith.h"
#include "backend/cpu/lib/cpu_layout.h"

#include <string.h>

enum { TAPS = 9, SIDE = 3 };

typedef float block_pixel __attribute__((vector_size(CHANNEL_BLOCK * sizeof(float)))); /* 16 channels of a pixel */

#define ALWAYS_INLINE inline __attribute__((always_inline))
/* `call`, in which N is the channels of the thin image, as a compile-time constant if there are 1 or 3. */
#define WITH_CONST_CHANNELS(N, channels, call)                                                                         \
    do {                                                                                                               \
        if ((channels) == 1) {                                                                                         \
            enum { N = 1 };                                                                                            \
            call;                                                                                                      \
        } else if ((channels) == 3) {                                                                                  \
            enum { N = 3 };                                                                                            \
            call;                                                                                                      \
        } else {                                                                                                       \
            const int N = (int)(channels);                                                                             \
            call;                                                                                                      \
        }                                                                                                              \
    } while (0)

bool thin_takes(const step *s, const tensor *x, const tensor *x2, const tensor *y, thin_conv *c)
{
    if (x2 || s->a.conv.kernel != SIDE || s->a.conv.stride != 1 || s->a.conv.pad_end) return false;
    const bool from_thin = x->c <= THIN_MAX;
    *c = (thin_conv){.wide = from_thin ? y : x, .thin = from_thin ? x : y, .from_thin = from_thin};
    return c->wide->c % CHANNEL_BLOCK == 0 && c->thin->c <= THIN_MAX && c->thin->layout == LAYOUT_NHWC;
}

/* ---- memory layout ---- */

static int64_t blocks_of(const thin_conv *c) { return c->wide->c / CHANNEL_BLOCK; }

/* Floats of one thin image with zero padding on all sides. */
static int64_t padded_count(const thin_conv *c) { return (c->thin->h + 2) * (c->thin->w + 2) * c->thin->c; }

static size_t filter_floats(const thin_conv *c)
{
    return (size_t)round_up(TAPS * c->thin->c * c->wide->c, CHANNEL_BLOCK);
}
/* Floats per image: the gradient of the filter, and a sum for each channel of the wide image. */
static size_t sums_floats(const thin_conv *c)
{
    return (size_t)round_up((TAPS * c->thin->c + 1) * c->wide->c, CHANNEL_BLOCK);
}

size_t thin_scratch(const thin_conv *c)
{
    const size_t images = (size_t)c->thin->n;
    return ((size_t)round_up(padded_count(c) * c->thin->n, CHANNEL_BLOCK) + filter_floats(c) +
            images * sums_floats(c)) *
           sizeof(float);
}

static float *padded_at(const thin_conv *c, void *scratch, int64_t image)
{
    return (float *)scratch + image * padded_count(c);
}
static float *filter_at(const thin_conv *c, void *scratch)
{
    return (float *)scratch + (size_t)round_up(padded_count(c) * c->thin->n, CHANNEL_BLOCK);
}
static float *sums_at(const thin_conv *c, void *scratch, int64_t image)
{
    return filter_at(c, scratch) + filter_floats(c) + (size_t)image * sums_floats(c);
}

/* Pixel i of a block of channels of a wide image is at[i * step]. */
typedef struct wide_spot {
    float *at;
    int64_t step;
} wide_spot;

static wide_spot wide_at(const thin_conv *c, int64_t image, int64_t block)
{
    const cpu_strides by = cpu_strides_of(c->wide, c->wide->layout);
    return (wide_spot){(float *)c->wide->data + image * by.image + block * by.block, by.pixel};
}

/* Index of the weight between channel w of the wide image and channel t of the thin one, at `tap` relative to the
 * wide pixel. */
static int64_t weight_at(const thin_conv *c, int tap, int64_t t, int64_t w)
{
    return c->from_thin ? (w * TAPS + tap) * c->thin->c + t : (t * TAPS + TAPS - 1 - tap) * c->wide->c + w;
}

static void pad_image(const thin_conv *c, int64_t image, void *scratch)
{
    const tensor *t = c->thin;
    const int64_t row = t->w * t->c, padded_row = (t->w + 2) * t->c;
    float *to = padded_at(c, scratch, image);
    const float *from = (const float *)t->data + image * t->h * row;
    memset(to, 0, (size_t)padded_count(c) * sizeof *to);
    for (int64_t y = 0; y < t->h; y++)
        memcpy(to + (y + 1) * padded_row + t->c, from + y * row, (size_t)row * sizeof *to);
}

/* Packs the filter as [block][tap][thin channel][16]. */
static void pack_filter(const thin_conv *c, const float *filter, float *to)
{
    for (int64_t b = 0; b < blocks_of(c); b++)
        for (int tap = 0; tap < TAPS; tap++)
            for (int64_t t = 0; t < c->thin->c; t++)
                for (int64_t w = 0; w < CHANNEL_BLOCK; w++) *to++ = filter[weight_at(c, tap, t, b * CHANNEL_BLOCK + w)];
}

static ALWAYS_INLINE block_pixel block_load(const float *from)
{
    block_pixel v;
    memcpy(&v, from, sizeof v);
    return v;
}
static ALWAYS_INLINE void block_store(float *to, block_pixel v) { memcpy(to, &v, sizeof v); }

/* ---- thin to wide ---- */

static ALWAYS_INLINE void spread_block(const thin_conv *c, const float *padded, const float *filter, const float *bias,
                                       wide_spot to, bool add, int T)
{
    const int64_t h = c->wide->h, w = c->wide->w, row = (w + 2) * T;
    block_pixel weight[TAPS * THIN_MAX], start = {0};
    for (int k = 0; k < TAPS * T; k++) weight[k] = block_load(filter + k * CHANNEL_BLOCK);
    if (bias) start = block_load(bias);
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            const float *at = padded + y * row + x * T;
            float *pixel = to.at + (y * w + x) * to.step;
            block_pixel sum = start;
            if (add) sum += block_load(pixel);
            for (int ky = 0; ky < SIDE; ky++)
                for (int k = 0; k < SIDE * T; k++) sum += weight[ky * SIDE * T + k] * at[ky * row + k];
            block_store(pixel, sum);
        }
}

void thin_spread(const thin_conv *c, const float *filter, const float *bias, bool add, void *scratch)
{
    const int64_t thin = c->thin->c, blocks = blocks_of(c);
    float *packed = filter_at(c, scratch);
    pack_filter(c, filter, packed);
#pragma omp parallel for schedule(static)
    for (int64_t image = 0; image < c->wide->n; image++) {
        pad_image(c, image, scratch);
        for (int64_t b = 0; b < blocks; b++) {
            const float *weights = packed + b * TAPS * thin * CHANNEL_BLOCK, *from = padded_at(c, scratch, image);
            const float *start = bias ? bias + b * CHANNEL_BLOCK : NULL;
            WITH_CONST_CHANNELS(T, thin, spread_block(c, from, weights, start, wide_at(c, image, b), add, T));
        }
    }
}

/* ---- wide to thin ---- */

/* Part of the 3x3 neighbourhood of a thin pixel that lies in the wide image: [top, bottom) x [left, right). */
typedef struct window {
    int top, bottom, left, right;
} window;

static ALWAYS_INLINE void gather_pixel(const thin_conv *c, const float *packed, int64_t image, int64_t pixel, window in,
                                       block_pixel *sum, int T)
{
    for (int64_t b = 0; b < blocks_of(c); b++) {
        const wide_spot from = wide_at(c, image, b);
        const float *weights = packed + b * TAPS * T * CHANNEL_BLOCK;
        for (int ky = in.top; ky < in.bottom; ky++)
            for (int kx = in.left; kx < in.right; kx++) {
                const block_pixel v = block_load(from.at + (pixel + (ky - 1) * c->wide->w + kx - 1) * from.step);
                const int tap = TAPS - 1 - (ky * SIDE + kx); /* of the thin pixel, seen from the wide one */
                for (int t = 0; t < T; t++) sum[t] += v * block_load(weights + (tap * T + t) * CHANNEL_BLOCK);
            }
    }
}

static ALWAYS_INLINE float sum_of(block_pixel v)
{
    float part[CHANNEL_BLOCK];
    block_store(part, v);
    for (int half = CHANNEL_BLOCK / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) part[i] += part[half + i];
    return part[0];
}

static ALWAYS_INLINE void gather_row(const thin_conv *c, const float *packed, int64_t image, int64_t y,
                                     const float *bias, bool add, int T)
{
    const int64_t h = c->wide->h, w = c->wide->w;
    for (int64_t x = 0; x < w; x++) {
        block_pixel sum[THIN_MAX] = {{0}};
        const window in = {y == 0, y == h - 1 ? 2 : SIDE, x == 0, x == w - 1 ? 2 : SIDE};
        if (in.top == 0 && in.bottom == SIDE && in.left == 0 && in.right == SIDE)
            gather_pixel(c, packed, image, y * w + x, (window){0, SIDE, 0, SIDE}, sum, T);
        else
            gather_pixel(c, packed, image, y * w + x, in, sum, T);
        float *to = (float *)c->thin->data + ((image * h + y) * w + x) * T;
        for (int t = 0; t < T; t++) to[t] = (add ? to[t] : 0) + (bias ? bias[t] : 0) + sum_of(sum[t]);
    }
}

void thin_gather(const thin_conv *c, const float *filter, const float *bias, bool add, void *scratch)
{
    float *packed = filter_at(c, scratch);
    pack_filter(c, filter, packed);
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t image = 0; image < c->wide->n; image++)
        for (int64_t y = 0; y < c->wide->h; y++)
            WITH_CONST_CHANNELS(T, c->thin->c, gather_row(c, packed, image, y, bias, add, T));
}

/* ---- gradients of filter and bias ---- */

/* to [TAPS T + 1][16]: the filter gradient of one image and block, and the block's sums over pixels */
static ALWAYS_INLINE void correlate_block(const thin_conv *c, const float *padded, wide_spot from, float *to, int T)
{
    const int64_t h = c->wide->h, w = c->wide->w, row = (w + 2) * T;
    block_pixel all[TAPS * THIN_MAX + 1];
    for (int k = 0; k <= TAPS * T; k++) all[k] = (block_pixel){0};
    for (int64_t y = 0; y < h; y++) {
        block_pixel sum[TAPS * THIN_MAX + 1];
        for (int k = 0; k <= TAPS * T; k++) sum[k] = (block_pixel){0};
        for (int64_t x = 0; x < w; x++) {
            const block_pixel v = block_load(from.at + (y * w + x) * from.step);
            const float *at = padded + y * row + x * T;
            for (int ky = 0; ky < SIDE; ky++)
                for (int k = 0; k < SIDE * T; k++) sum[ky * SIDE * T + k] += v * at[ky * row + k];
            sum[TAPS * T] += v;
        }
        for (int k = 0; k <= TAPS * T; k++) all[k] += sum[k];
    }
    for (int k = 0; k <= TAPS * T; k++) block_store(to + k * CHANNEL_BLOCK, all[k]);
}

/* Value number `at` of the sums, added over images. */
static float sum_over_images(const thin_conv *c, void *scratch, int64_t at)
{
    double sum = 0;
    for (int64_t image = 0; image < c->wide->n; image++) sum += (double)sums_at(c, scratch, image)[at];
    return (float)sum;
}

static void finish_block(const thin_conv *c, const thin_gradients *g, int64_t block, void *scratch)
{
    const int64_t thin = c->thin->c, count = TAPS * thin + 1;
    for (int64_t k = 0; k < count; k++)
        for (int64_t lane = 0; lane < CHANNEL_BLOCK; lane++) {
            const int64_t channel = block * CHANNEL_BLOCK + lane;
            const float sum = sum_over_images(c, scratch, (block * count + k) * CHANNEL_BLOCK + lane);
            if (k < TAPS * thin) {
                float *to = &g->filter[weight_at(c, (int)(k / thin), k % thin, channel)];
                *to = (g->add ? *to : 0) + sum;
            } else if (g->bias && c->from_thin) {
                g->bias[channel] = (g->add_bias ? g->bias[channel] : 0) + sum;
            }
        }
}

/* The gradient of the bias of a convolution that writes thin. */
static void sum_thin(const thin_conv *c, const thin_gradients *g)
{
    const tensor *t = c->thin;
    double sum[THIN_MAX] = {0};
    for (int64_t row = 0; row < t->n * t->h; row++) {
        float part[THIN_MAX] = {0};
        const float *from = (const float *)t->data + row * t->w * t->c;
        for (int64_t i = 0; i < t->w * t->c; i++) part[i % t->c] += from[i];
        for (int64_t k = 0; k < t->c; k++) sum[k] += (double)part[k];
    }
    for (int64_t k = 0; k < t->c; k++) g->bias[k] = (g->add_bias ? g->bias[k] : 0) + (float)sum[k];
}

void thin_correlate(const thin_conv *c, const thin_gradients *g, void *scratch)
{
    const int64_t thin = c->thin->c, blocks = blocks_of(c);
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t image = 0; image < c->wide->n; image++) {
            pad_image(c, image, scratch);
            for (int64_t b = 0; b < blocks; b++) {
                float *to = sums_at(c, scratch, image) + b * (TAPS * thin + 1) * CHANNEL_BLOCK;
                const float *from = padded_at(c, scratch, image);
                WITH_CONST_CHANNELS(T, thin, correlate_block(c, from, wide_at(c, image, b), to, T));
            }
        }
#pragma omp for schedule(static)
        for (int64_t b = 0; b < blocks; b++) finish_block(c, g, b, scratch);
    }
    if (g->bias && !c->from_thin) sum_thin(c, g);
}
