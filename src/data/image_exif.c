/* image_exif.c - reading and applying the EXIF orientation. */
#include "data/image_codec.h"

#include "base/mem.h"
#include <string.h>

/* A TIFF block: "II*\0" or "MM\0*" and the offset of the first directory, which is a count and 12-byte entries. */
enum { TIFF_HEADER = 8, TIFF_ENTRY = 12, TAG_ORIENTATION = 0x0112, TYPE_SHORT = 3, TYPE_LONG = 4 };

static uint32_t tiff_read(const uint8_t *p, int bytes, int big_endian)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++) v = v << 8 | p[big_endian ? i : bytes - 1 - i];
    return v;
}

int exif_orientation(const uint8_t *tiff, size_t size)
{
    if (size < TIFF_HEADER + 2) return 1;
    const int big = !memcmp(tiff, "MM\0*", 4);
    if (!big && memcmp(tiff, "II*\0", 4)) return 1;
    const size_t dir = tiff_read(tiff + 4, 4, big);
    if (dir > size - 2) return 1;
    const size_t count = tiff_read(tiff + dir, 2, big);
    for (size_t i = 0; i < count; i++) {
        const size_t at = dir + 2 + i * TIFF_ENTRY;
        if (at + TIFF_ENTRY > size) return 1;
        if (tiff_read(tiff + at, 2, big) != TAG_ORIENTATION) continue;
        const uint32_t type = tiff_read(tiff + at + 2, 2, big);
        if (type != TYPE_SHORT && type != TYPE_LONG) return 1;
        const uint32_t v = tiff_read(tiff + at + 8, type == TYPE_SHORT ? 2 : 4, big);
        return v >= 1 && v <= 8 ? (int)v : 1;
    }
    return 1;
}

ddpm_status exif_apply(int orientation, image *img, const char *name, err *e)
{
    if (orientation <= 1) return DDPM_OK;
    /* 2 mirrored, 3 rotated by 180 degrees, 4 flipped vertically, 5 transposed, 6 and 8 rotated by 90 degrees,
     * 7 transposed about the other diagonal */
    const int swap = orientation >= 5;
    const int flip_y = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    const int flip_x = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    image out;
    TRY(image_create(&out, swap ? img->w : img->h, swap ? img->h : img->w, img->c, name, e));
    uint8_t *to = out.pixel;
    for (int y = 0; y < out.h; y++)
        for (int x = 0; x < out.w; x++, to += img->c) {
            int sy = swap ? x : y, sx = swap ? y : x;
            if (flip_y) sy = img->h - 1 - sy;
            if (flip_x) sx = img->w - 1 - sx;
            memcpy(to, img->pixel + ((size_t)sy * (size_t)img->w + (size_t)sx) * (size_t)img->c, (size_t)img->c);
        }
    image_free(img);
    *img = out;
    return DDPM_OK;
}
