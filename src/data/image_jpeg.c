#include "data/image_codec.h"

#include <string.h>
#include <turbojpeg.h>

/* One bit of entropy-coded data at least for each block of 8 x 8 pixels. */
enum { PIXELS_PER_BYTE = 8 * 64 };

/* The orientation from the first APP1 "Exif" segment in front of the pixels; 1 where there is none.
 * The decoder does not hand segments out, so they are walked here: FF, marker, big-endian length. */
static int jpeg_orientation(const uint8_t *b, size_t size)
{
    enum { APP1 = 0xe1, START_OF_SCAN = 0xda, END_OF_IMAGE = 0xd9, FILL = 0xff };
    size_t at = 2;
    while (at + 4 <= size && b[at] == 0xff) {
        const int marker = b[at + 1];
        if (marker == FILL) {
            at++;
            continue;
        }
        if (marker == START_OF_SCAN || marker == END_OF_IMAGE) break;
        const size_t length = (size_t)b[at + 2] << 8 | b[at + 3];
        if (length < 2 || length > size - at - 2) break;
        const uint8_t *body = b + at + 4;
        if (marker == APP1 && length >= 8 && !memcmp(body, "Exif\0\0", 6))
            return exif_orientation(body + 6, length - 8);
        at += 2 + length;
    }
    return 1;
}

static ddpm_status jpeg_pixels(tjhandle tj, const uint8_t *bytes, size_t size, const char *name, image *out, err *e)
{
    int w, h, subsampling, space;
    if (tjDecompressHeader3(tj, bytes, size, &w, &h, &subsampling, &space))
        return err_set(e, DDPM_EDATA, "%s: damaged JPEG: %s", name, tjGetErrorStr2(tj));
    if (h < 1 || w < 1) return err_set(e, DDPM_EDATA, "%s: damaged JPEG: cut short before the picture", name);
    TRY(image_check(h, w, size, PIXELS_PER_BYTE, name, e));
    if (space == TJCS_CMYK || space == TJCS_YCCK)
        return err_set(e, DDPM_EDATA, "%s: a CMYK JPEG (for print); convert it to RGB", name);
    TRY(image_create(out, h, w, space == TJCS_GRAY ? 1 : 3, name, e));
    /* a truncated file is only a warning to the decoder, which fills the rest with grey */
    const int flags = TJFLAG_STOPONWARNING | TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS;
    if (tjDecompress2(tj, bytes, size, out->pixel, w, 0, h, out->c == 1 ? TJPF_GRAY : TJPF_RGB, flags))
        return err_set(e, DDPM_EDATA, "%s: damaged JPEG: %s", name, tjGetErrorStr2(tj));
    return exif_apply(jpeg_orientation(bytes, size), out, name, e);
}

ddpm_status jpeg_decode(const uint8_t *bytes, size_t size, const char *name, image *out, err *e)
{
    tjhandle tj = tjInitDecompress();
    if (!tj) return err_set(e, DDPM_ENOMEM, "%s: cannot start the JPEG decoder", name);
    const ddpm_status st = jpeg_pixels(tj, bytes, size, name, out, e);
    (void)tjDestroy(tj);
    if (st != DDPM_OK) image_free(out);
    return st;
}
