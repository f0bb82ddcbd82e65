/* Any bytes as a PNG or JPEG file: decoded and then resized, converted and written, or refused in one line.
 *
 * A changed byte of a PNG mostly dies at a chunk's checksum, so every PNG is also tried with its
 * checksums put right. */
#include "data/image.h"

#include "base/mem.h"
#include "fuzz/fuzz_check.h"
#include <stdlib.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Resize, convert, write and read back what was decoded. */
static void use(const image *img)
{
    enum { SMALL = 64 * 64 };
    image small, grey, back;
    uint8_t *png;
    size_t size;
    FUZZ_CHECK(img->h >= 1 && img->w >= 1 && (img->c == 1 || img->c == 3));
    FUZZ_CHECK(image_resize(img, 9, 8, &small, NULL) == DDPM_OK);
    FUZZ_CHECK(image_to(&small, 1, &grey, NULL) == DDPM_OK);
    image_free(&small);
    image_free(&grey);
    if (img->h * img->w > SMALL) return;
    FUZZ_CHECK(image_encode_png(img, &png, &size, NULL) == DDPM_OK);
    FUZZ_CHECK(image_decode(png, size, "fuzz", &back, NULL) == DDPM_OK);
    FUZZ_CHECK(!memcmp(back.pixel, img->pixel, (size_t)img->h * (size_t)img->w * (size_t)img->c));
    image_free(&back);
    free(png);
}

static void decode(const uint8_t *bytes, size_t size)
{
    image img;
    err e = {0};
    const ddpm_status st = image_decode(bytes, size, "fuzz", &img, &e);
    FUZZ_CHECK(fuzz_message_is_fine(st, &e));
    FUZZ_CHECK((st == DDPM_OK) == (img.pixel != NULL));
    if (st == DDPM_OK) use(&img);
    image_free(&img);
}

static uint32_t big_endian(const uint8_t *p) { return (uint32_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3]; }

/* Chunks follow the 8 bytes of the signature: length, four letters, body, checksum of letters and body. */
static void mend_checksums(uint8_t *png, size_t size)
{
    for (size_t at = 8; at + 12 <= size;) {
        const size_t length = big_endian(png + at);
        if (length > size - at - 12) return;
        const uint32_t crc = (uint32_t)crc32(0, png + at + 4, (uInt)(length + 4));
        for (int i = 0; i < 4; i++) png[at + 8 + length + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
        at += length + 12;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const char *format = image_format(bytes, size);
    decode(bytes, size);
    if (!format || format[0] != 'P') return 0;
    uint8_t *mended = malloc(size);
    FUZZ_CHECK(mended != NULL);
    memcpy(mended, bytes, size);
    mend_checksums(mended, size);
    decode(mended, size);
    free(mended);
    return 0;
}
