/* image.h - pictures in memory: read, converted, resized, tiled and written.
 *
 * Pixels are u8 NHWC, without padding between rows; c is 1 (grey) or 3 (red, green, blue).
 * Files come from strangers: sizes are checked against the limits below in the file's header,
 * before anything is allocated for the pixels. */
#ifndef DDPM_IMAGE_H
#define DDPM_IMAGE_H
#include "base/err.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    IMAGE_MAX_SIDE = 16384,      /* pixels a side */
    IMAGE_MAX_PIXELS = 64 << 20, /* height times width */
    IMAGE_MAX_BYTES = 256 << 20, /* of a file */
};

typedef struct image {
    int h, w, c;
    uint8_t *pixel; /* [h, w, c], owned */
} image;

/* A black image.  `name` opens the message.  DDPM_EDATA: a side or the area is over the limits. */
DDPM_MUST_CHECK ddpm_status image_create(image *out, int h, int w, int c, const char *name, err *e);
void image_free(image *img); /* takes NULL and the zeroed struct; leaves it zeroed */

/* A PNG or JPEG file, told apart by its first bytes.  Grey files give c = 1, all others c = 3.
 *   alpha     dropped, not blended (as Pillow's convert("RGB"))
 *   16 bit    the high byte of each sample
 *   palette   looked up, c = 3
 *   EXIF      orientation applied (as Pillow's ImageOps.exif_transpose), in both formats
 *   CMYK      the inks of a JPEG, 255 = none as Adobe stores them, as Pillow's convert("RGB")
 * A file that is cut short or damaged is DDPM_EDATA, never a half-grey picture.  A JPEG that is only odd (bytes between
 * its markers or behind it, parameters that change no pixel) is read.
 * DDPM_ENOINPUT: missing or unreadable. */
DDPM_MUST_CHECK ddpm_status image_load(const char *path, image *out, err *e);

/* As image_load(), from memory; `name` opens the message. */
DDPM_MUST_CHECK ddpm_status image_decode(const void *bytes, size_t size, const char *name, image *out, err *e);

/* "PNG", "JPEG", or NULL when these first bytes are neither's; 8 bytes are enough. */
const char *image_format(const void *bytes, size_t size);

/* Channels of the picture that image_decode() would make of a file that begins so, from its header alone: 1 or 3;
 * 0 where the header is damaged or not whole. */
int image_channels(const void *bytes, size_t size);

/* A copy with 1 or 3 channels.  Grey is ITU-R 601-2 luma in Pillow's fixed point:
 * (19595 R + 38470 G + 7471 B + 32768) >> 16. */
DDPM_MUST_CHECK ddpm_status image_to(const image *in, int channels, image *out, err *e);

/* A copy of exactly h x w: scaled so that it just covers h x w, then cropped in the middle.
 * For h = w this is torchvision's Resize(h) + CenterCrop(h) on a Pillow image, bilinear with
 * antialiasing, in Pillow's fixed-point arithmetic and to the bit (rows first). */
DDPM_MUST_CHECK ddpm_status image_resize(const image *in, int h, int w, image *out, err *e);

/* n tiles [n, h, w, c] in rows of `columns`, 2 black pixels between and around them, as
 * torchvision.utils.make_grid does (also for n = 1, which it leaves alone). */
DDPM_MUST_CHECK ddpm_status image_grid(const uint8_t *tiles, int n, const int shape[3], int columns, image *out,
                                       err *e);
/* How many of n such tiles image_grid() can put into one image, 0 where not even one fits.  *columns comes in as asked
 * for, 0 = as square as can be, and goes out as what that many tiles need: fewer, where a row would be too wide. */
int image_grid_tiles(int n, const int shape[3], int *columns);

/* PNG, fast setting (zlib level 1, SUB filter).  To a file as file_replace_lazily() writes one, with "Software" (tEXt)
 * set to `software` unless that is NULL; to memory as *bytes, to be freed with free(). */
DDPM_MUST_CHECK ddpm_status image_write_png(const char *path, const image *img, err *e);
DDPM_MUST_CHECK ddpm_status image_write_png_by(const char *path, const image *img, const char *software, err *e);
DDPM_MUST_CHECK ddpm_status image_encode_png(const image *img, uint8_t **bytes, size_t *size, err *e);

/* Is it a PNG file of h x w pixels, 1 or 3 channels of 8 bits, not interlaced, and whole?  The checksum of every chunk
 * is compared and nothing is unpacked: some 10 us for a small picture. */
bool image_png_is_whole(const char *path, int h, int w, int c);
/* Is it a PNG file that image_write_png_by() wrote for this software? */
bool image_png_is_by(const char *path, const char *software);

#endif
