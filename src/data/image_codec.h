/* image_codec.h - the decoders of the image formats and their common checks; for src/data/image*.c only. */
#ifndef DDPM_IMAGE_CODEC_H
#define DDPM_IMAGE_CODEC_H
#include "data/image.h"

/* The formats behind image_decode(). */
DDPM_MUST_CHECK ddpm_status png_decode(const uint8_t *bytes, size_t size, const char *name, image *out, err *e);
DDPM_MUST_CHECK ddpm_status jpeg_decode(const uint8_t *bytes, size_t size, const char *name, image *out, err *e);

/* image_channels() for each format. */
int png_channels(const uint8_t *bytes, size_t size);
int jpeg_channels(const uint8_t *bytes, size_t size);

/* DDPM_EDATA if the size in a header is empty, exceeds the limits, or has more pixels than a file of `size` bytes can
 * encode with at most `per_byte` pixels per byte. */
DDPM_MUST_CHECK ddpm_status image_check(int64_t h, int64_t w, size_t size, int64_t per_byte, const char *name, err *e);

/* Orientation 1..8 of a TIFF-structured EXIF block (without the leading "Exif\0\0"); 1 if there is none. */
int exif_orientation(const uint8_t *tiff, size_t size);

/* Rotate and mirror the image so that it is upright; `name` begins the error message. */
DDPM_MUST_CHECK ddpm_status exif_apply(int orientation, image *img, const char *name, err *e);

#endif
