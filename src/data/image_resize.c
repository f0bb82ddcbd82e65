/* image_resize.c - antialiased bilinear resizing as in Pillow (src/libImaging/Resample.c).
 *
 * A separable triangle filter, widened by the scale when shrinking, with weights in 22-bit fixed point, rows first, 8
 * bits between the two passes.  Pillow 13 resizes columns first if that is less work, which changes samples by at most
 * 1.
 * Only the rows and columns that survive the crop are computed. */
#include "data/image.h"

#include "base/mem.h"
#include <math.h>

enum { WEIGHT_BITS = 22 };

/* One axis: `size` source samples scaled to `scaled` samples, of which [first, first + count) are needed. */
typedef struct axis {
    int size, first, count;
    int64_t scaled;
    int taps;        /* weights stored per output sample */
    int32_t *weight; /* [count, taps], fixed point; they sum to about 1 */
    int *from, *n;   /* [count] first source sample, and number of source samples */
} axis;

static void axis_free(axis *a)
{
    mem_free(a->weight);
    mem_free(a->from);
    mem_free(a->n);
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static void axis_weights(axis *a, int i, double scale)
{
    const double reach = scale > 1.0 ? scale : 1.0; /* half the width of the triangle */
    const double centre = ((double)(a->first + (int64_t)i) + 0.5) * scale, narrow = 1.0 / reach;
    int lo = (int)(centre - reach + 0.5), hi = (int)(centre + reach + 0.5);
    if (lo < 0) lo = 0;
    if (hi > a->size) hi = a->size;
    a->from[i] = lo;
    a->n[i] = hi - lo;
    double sum = 0.0;
    for (int k = lo; k < hi; k++) sum += triangle((k - centre + 0.5) * narrow);
    int32_t *weight = a->weight + (size_t)i * (size_t)a->taps;
    for (int k = lo; k < hi; k++)
        weight[k - lo] = (int32_t)(0.5 + triangle((k - centre + 0.5) * narrow) / sum * (1 << WEIGHT_BITS));
}

static ddpm_status axis_make(axis *a, err *e)
{
    const double scale = (double)a->size / (double)a->scaled;
    a->taps = 2 * (int)ceil(scale > 1.0 ? scale : 1.0) + 1;
    TRY(mem_array(&a->weight, (size_t)a->count * (size_t)a->taps, sizeof *a->weight, "weights to resize", e));
    TRY(mem_array(&a->from, (size_t)a->count, sizeof *a->from, "weights to resize", e));
    TRY(mem_array(&a->n, (size_t)a->count, sizeof *a->n, "weights to resize", e));
    for (int i = 0; i < a->count; i++) axis_weights(a, i, scale);
    return DDPM_OK;
}

/* Output sample i of an axis from samples `stride` bytes apart. */
static uint8_t axis_apply(const axis *a, int i, const uint8_t *sample, size_t stride)
{
    int32_t sum = 1 << (WEIGHT_BITS - 1);
    const int32_t *w = a->weight + (size_t)i * (size_t)a->taps;
    for (int k = 0; k < a->n[i]; k++) sum += w[k] * sample[(size_t)k * stride];
    const int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v > 255 ? 255 : v);
}

/* The crop's offset: half of the excess, with halves rounded to even as Python's round() does. */
static int crop_start(int64_t over) { return (int)(over / 2 + (over % 4 == 3)); }

/* The smallest scaled size that covers h x w, and the crop from it. */
static void cover(const image *in, int h, int w, axis *down, axis *across)
{
    *down = (axis){.size = in->h, .count = h, .scaled = h};
    *across = (axis){.size = in->w, .count = w, .scaled = w};
    if ((int64_t)in->h * w >= (int64_t)in->w * h)
        down->scaled = (int64_t)in->h * w / in->w;
    else
        across->scaled = (int64_t)in->w * h / in->h;
    down->first = crop_start(down->scaled - h);
    across->first = crop_start(across->scaled - w);
}

static void resize_rows(const image *in, const axis *across, int top, image *narrow)
{
    const size_t c = (size_t)in->c;
    for (int y = 0; y < narrow->h; y++) {
        const uint8_t *row = in->pixel + (size_t)(top + y) * (size_t)in->w * c;
        uint8_t *to = narrow->pixel + (size_t)y * (size_t)narrow->w * c;
        for (int x = 0; x < narrow->w; x++)
            for (size_t k = 0; k < c; k++) *to++ = axis_apply(across, x, row + (size_t)across->from[x] * c + k, c);
    }
}

static void resize_columns(const image *narrow, const axis *down, int top, image *out)
{
    const size_t row = (size_t)narrow->w * (size_t)narrow->c;
    uint8_t *to = out->pixel;
    for (int y = 0; y < out->h; y++)
        for (size_t k = 0; k < row; k++)
            *to++ = axis_apply(down, y, narrow->pixel + (size_t)(down->from[y] - top) * row + k, row);
}

ddpm_status image_resize(const image *in, int h, int w, image *out, err *e)
{
    ddpm_status st = DDPM_OK;
    axis down = {0}, across = {0};
    image narrow = {0};
    TRY(image_create(out, h, w, in->c, "resized image", e));
    cover(in, h, w, &down, &across);
    TRY_GOTO(axis_make(&down, e));
    TRY_GOTO(axis_make(&across, e));
    const int top = down.from[0], rows = down.from[h - 1] + down.n[h - 1] - top;
    TRY_GOTO(image_create(&narrow, rows, w, in->c, "resized image", e));
    resize_rows(in, &across, top, &narrow);
    resize_columns(&narrow, &down, top, out);
done:
    axis_free(&down);
    axis_free(&across);
    image_free(&narrow);
    if (st != DDPM_OK) image_free(out);
    return st;
}
