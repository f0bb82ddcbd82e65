/* image_codec.h - what the file formats share; for src/data/image*.c alone. */
#ifndef DDPM_IMAGE_CODEC_H
#define DDPM_IMAGE_CODEC_H
#include "data/image.h"

/* The formats behind image_decode(). */
DDPM_MUST_CHECK ddpm_status png_decode(const uint8_t *bytes, size_t size, const char *name, image *out, err *e);
DDPM_MUST_CHECK ddpm_status jpeg_decode(const uint8_t *bytes, size_t size, const char *name, image *out, err *e);

/* What image_channels() says of each. */
int png_channels(const uint8_t *bytes, size_t size);
int jpeg_channels(const uint8_t *bytes, size_t size);

/* DDPM_EDATA where a header promises no pixels, more than the limits, or more pixels than `size` bytes can hold when
 * a byte holds at most `per_byte` of them. */
DDPM_MUST_CHECK ddpm_status image_check(int64_t h, int64_t w, size_t size, int64_t per_byte, const char *name, err *e);

/* Orientation 1..8 of a TIFF-structured EXIF block (without the "Exif\0\0" in front); 1 where there is none. */
int exif_orientation(const uint8_t *tiff, size_t size);

/* Turn and mirror the picture so that it stands upright; `name` opens the message. */
DDPM_MUST_CHECK ddpm_status exif_apply(int orientation, image *img, const char *name, err *e);

#endif
