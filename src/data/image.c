#include "data/image_codec.h"

#include "base/file.h"
#include "base/mem.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

ddpm_status image_check(int64_t h, int64_t w, size_t size, int64_t per_byte, const char *name, err *e)
{
    if (h < 1 || w < 1)
        return err_set(e, DDPM_EDATA, "%s: image without pixels (%lld x %lld)", name, (long long)w, (long long)h);
    if (h > IMAGE_MAX_SIDE || w > IMAGE_MAX_SIDE || h * w > IMAGE_MAX_PIXELS)
        return err_set(e, DDPM_EDATA, "%s: %lld x %lld pixels; the limit is %d per side and %d in total", name,
                       (long long)w, (long long)h, IMAGE_MAX_SIDE, IMAGE_MAX_PIXELS);
    if (h * w / per_byte > (int64_t)size)
        return err_set(e, DDPM_EDATA,
                       "%s: the header declares %lld x %lld pixels, more than a file of %zu bytes can contain", name,
                       (long long)w, (long long)h, size);
    return DDPM_OK;
}

ddpm_status image_create(image *out, int h, int w, int c, const char *name, err *e)
{
    *out = (image){0};
    if (c != 1 && c != 3) return err_set(e, DDPM_EINVAL, "%s: %d channels; 1 or 3 are supported", name, c);
    TRY(image_check(h, w, SIZE_MAX / 2, 1, name, e));
    out->pixel = calloc((size_t)h * (size_t)w, (size_t)c); /* calloc commits no pages: a wrong header costs no memory */
    if (!out->pixel) return err_set(e, DDPM_ENOMEM, "%s: out of memory for %d x %d pixels of %d bytes", name, w, h, c);
    out->h = h;
    out->w = w;
    out->c = c;
    return DDPM_OK;
}

void image_free(image *img)
{
    if (!img) return;
    mem_free(img->pixel);
    *img = (image){0};
}

const char *image_format(const void *bytes, size_t size)
{
    if (size >= 8 && !memcmp(bytes, "\x89PNG\r\n\x1a\n", 8)) return "PNG";
    if (size >= 3 && !memcmp(bytes, "\xff\xd8\xff", 3)) return "JPEG";
    return NULL;
}

int image_channels(const void *bytes, size_t size)
{
    const char *format = image_format(bytes, size);
    return !format ? 0 : format[0] == 'P' ? png_channels(bytes, size) : jpeg_channels(bytes, size);
}

ddpm_status image_decode(const void *bytes, size_t size, const char *name, image *out, err *e)
{
    *out = (image){0};
    const char *format = image_format(bytes, size);
    if (!format)
        return err_set(e, DDPM_EDATA, "%s: %s", name, size ? "neither a PNG nor a JPEG file" : "an empty file");
    return format[0] == 'P' ? png_decode(bytes, size, name, out, e) : jpeg_decode(bytes, size, name, out, e);
}

ddpm_status image_load(const char *path, image *out, err *e)
{
    char *bytes;
    size_t size;
    *out = (image){0};
    TRY(file_read(path, IMAGE_MAX_BYTES, &bytes, &size, e));
    const ddpm_status st = image_decode(bytes, size, path, out, e);
    mem_free(bytes);
    return st;
}

ddpm_status image_to(const image *in, int channels, image *out, err *e)
{
    TRY(image_create(out, in->h, in->w, channels, "conversion of an image", e));
    const size_t n = (size_t)in->h * (size_t)in->w;
    const uint8_t *from = in->pixel;
    uint8_t *to = out->pixel;
    if (in->c == channels) {
        memcpy(to, from, n * (size_t)channels);
    } else if (channels == 1) {
        for (size_t i = 0; i < n; i++, from += 3)
            to[i] = (uint8_t)((from[0] * 19595U + from[1] * 38470U + from[2] * 7471U + 0x8000U) >> 16);
    } else {
        for (size_t i = 0; i < n; i++) memset(to + 3 * i, from[i], 3);
    }
    return DDPM_OK;
}

enum { GAP = 2 };

static int tiles_a_side(int side) { return (IMAGE_MAX_SIDE - GAP) / (side + GAP); }

static bool grid_fits(int n, const int shape[3], int columns)
{
    const int64_t rows = (n - 1) / columns + 1;
    const int64_t high = rows * (shape[0] + GAP) + GAP, wide = (int64_t)columns * (shape[1] + GAP) + GAP;
    return high <= IMAGE_MAX_SIDE && wide <= IMAGE_MAX_SIDE && high * wide <= IMAGE_MAX_PIXELS;
}

int image_grid_tiles(int n, const int shape[3], int *columns)
{
    const int requested = *columns, widest = tiles_a_side(shape[1]), highest = tiles_a_side(shape[0]);
    if (widest < 1 || highest < 1) return 0;
    for (; n > 0; n--) {
        const int square = (int)ceil(sqrt((double)n)), least = (n - 1) / highest + 1;
        *columns = requested > 0 ? requested : square > least ? square : least;
        if (*columns > widest) *columns = widest;
        if (*columns > n) *columns = n;
        if (grid_fits(n, shape, *columns)) return n;
    }
    return 0;
}

ddpm_status image_grid(const uint8_t *tiles, int n, const int shape[3], int columns, image *out, err *e)
{
    const int h = shape[0], w = shape[1], c = shape[2];
    *out = (image){0};
    if (n < 1 || columns < 1)
        return err_set(e, DDPM_EINVAL, "grid of images: %d tiles in %d columns; at least 1 of each is required", n,
                       columns);
    if (columns > n) columns = n;
    const int rows = (n - 1) / columns + 1;
    const int64_t high = (int64_t)rows * (h + GAP) + GAP, wide = (int64_t)columns * (w + GAP) + GAP;
    TRY(image_check(high, wide, SIZE_MAX / 2, 1, "grid of images", e));
    TRY(image_create(out, (int)high, (int)wide, c, "grid of images", e));
    const size_t row = (size_t)w * (size_t)c;
    for (int k = 0; k < n; k++)
        for (int y = 0; y < h; y++) {
            const int top = GAP + (k / columns) * (h + GAP) + y, left = GAP + (k % columns) * (w + GAP);
            memcpy(out->pixel + ((size_t)top * (size_t)wide + (size_t)left) * (size_t)c,
                   tiles + ((size_t)k * (size_t)h + (size_t)y) * row, row);
        }
    return DDPM_OK;
}
