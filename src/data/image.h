/* image.h - images in memory: reading, converting, resizing, tiling and writing.
 *
 * Pixels are u8 NHWC, without padding between rows; c is 1 (grey) or 3 (red, green, blue).
 * Files are untrusted: the sizes in a file's header are checked against the limits below before
 * memory is allocated for the pixels. */
#ifndef DDPM_IMAGE_H
#define DDPM_IMAGE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMAGE_MAX_SIDE = 16384,      /* pixels per side */
    IMAGE_MAX_PIXELS = 64 << 20, /* height times width */
    IMAGE_MAX_BYTES = 256 << 20, /* of a file */
};

typedef struct image {
    int h, w, c;
    uint8_t *pixel; /* [h, w, c], owned */
} image;

/* Create a black image.  `name` begins the error message.  DDPM_EDATA: a side or the area exceeds the limits. */
DDPM_MUST_CHECK ddpm_status image_create(image *out, int h, int w, int c, const char *name, err *e);
void image_free(image *img); /* accepts NULL and a zeroed struct; leaves it zeroed */

/* Read a PNG or JPEG file, distinguished by its first bytes.  Grey files yield c = 1, all others c = 3.
 *   alpha     dropped, not blended (as Pillow's convert("RGB"))
 *   16 bit    the high byte of each sample
 *   palette   looked up, c = 3
 *   EXIF      orientation applied (as Pillow's ImageOps.exif_transpose), in both formats
 *   CMYK      JPEG only: inverted as Adobe stores it (255 = no ink), converted as Pillow's convert("RGB")
 * A truncated or damaged file is DDPM_EDATA, never a partly grey image.  A JPEG with irregularities that change no
 * pixel (extra bytes between markers or at the end, irrelevant parameters) is accepted.
 * DDPM_ENOINPUT: missing or unreadable. */
DDPM_MUST_CHECK ddpm_status image_load(const char *path, image *out, err *e);

/* As image_load(), from memory; `name` begins the error message. */
DDPM_MUST_CHECK ddpm_status image_decode(const void *bytes, size_t size, const char *name, image *out, err *e);

/* "PNG" or "JPEG" by the first bytes of a file (8 are enough); NULL for another format. */
const char *image_format(const void *bytes, size_t size);

/* The channels that image_decode() would return, 1 or 3, from the first `size` bytes of a file; 0 if they hold no
 * complete, undamaged header. */
int image_channels(const void *bytes, size_t size);

/* A copy with 1 or 3 channels.  Grey is ITU-R 601-2 luma in Pillow's fixed point:
 * (19595 R + 38470 G + 7471 B + 32768) >> 16. */
DDPM_MUST_CHECK ddpm_status image_to(const image *in, int channels, image *out, err *e);

/* A copy of exactly h x w: scaled to the smallest size that covers h x w, then center-cropped.
 * For h = w the result is bitwise that of torchvision's Resize(h) + CenterCrop(h) on a Pillow image:
 * bilinear with antialiasing, in Pillow's fixed-point arithmetic (rows first). */
DDPM_MUST_CHECK ddpm_status image_resize(const image *in, int h, int w, image *out, err *e);

/* Arrange n tiles [n, h, w, c] in rows of `columns`, with 2 black pixels between and around them, as
 * torchvision.utils.make_grid does (also for n = 1, where make_grid adds no border). */
DDPM_MUST_CHECK ddpm_status image_grid(const uint8_t *tiles, int n, const int shape[3], int columns, image *out,
                                       err *e);
/* The number of n such tiles that image_grid() can put into one image, 0 if not even one fits.  *columns is the
 * requested number of columns, 0 = as square as possible; it is reduced if a row would be too wide or not full. */
int image_grid_tiles(int n, const int shape[3], int *columns);

/* Write a PNG with fast compression (zlib level 1, SUB filter): to a file by file_replace_lazily(), with a "Software"
 * (tEXt) chunk unless `software` is NULL; or to memory as *bytes, free with free(). */
DDPM_MUST_CHECK ddpm_status image_write_png(const char *path, const image *img, err *e);
DDPM_MUST_CHECK ddpm_status image_write_png_by(const char *path, const image *img, const char *software, err *e);
DDPM_MUST_CHECK ddpm_status image_encode_png(const image *img, uint8_t **bytes, size_t *size, err *e);

/* Is it, in memory, a complete PNG file of h x w pixels with c channels (1 or 3) of 8 bits, not interlaced?  Compares
 * the checksum of every chunk without decompressing: about 10 us for a small image. */
bool image_png_bytes_are_whole(const void *bytes, size_t size, int h, int w, int c);
/* Is it a PNG file that image_write_png_by() wrote with this `software`? */
bool image_png_is_by(const char *path, const char *software);

#endif
