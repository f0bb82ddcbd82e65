/* image_png_chunks.c - checking PNG files by their chunks, without decompressing them. */
#include "data/image_codec.h"

#include "base/big_endian.h"
#include "base/file.h"
#include "base/mem.h"
#include <string.h>
#include <zlib.h>

/* A PNG file is 8 bytes and then chunks: size of the data, type, data, CRC-32 of type and data (ISO/IEC 15948, 5.3). */
enum { SIGNATURE = 8, AROUND = 12, HEADER = 13 };

typedef struct chunk {
    const uint8_t *type, *data; /* [4]; [size] */
    size_t size;
} chunk;

/* Read the chunk at *at, and advance *at to the next chunk; false: no complete chunk. */
static bool next_chunk(const uint8_t *bytes, size_t size, size_t *at, chunk *c)
{
    if (size - *at < AROUND) return false;
    const uint8_t *here = bytes + *at;
    *c = (chunk){here + 4, here + 8, big_endian(here)};
    if (c->size > size - *at - AROUND) return false;
    if (crc32_z(0, c->type, c->size + 4) != big_endian(c->data + c->size)) return false;
    *at += c->size + AROUND;
    return true;
}

static bool is_a(const chunk *c, const char *type) { return !memcmp(c->type, type, 4); }

/* Does the IHDR data match?  It has width, height, bits per sample, colour type, compression, filter, interlacing. */
static bool is_header(const chunk *c, int h, int w, int channels)
{
    const uint8_t expected[HEADER] = {
        (uint8_t)(w >> 24), (uint8_t)(w >> 16), (uint8_t)(w >> 8), (uint8_t)w, (uint8_t)(h >> 24),
        (uint8_t)(h >> 16), (uint8_t)(h >> 8),  (uint8_t)h,        8,          channels == 1 ? 0 : 2};
    return is_a(c, "IHDR") && c->size == HEADER && !memcmp(c->data, expected, HEADER);
}

static bool is_png(const void *bytes, size_t size)
{
    const char *format = image_format(bytes, size);
    return format && format[0] == 'P';
}

static ddpm_status read_png(const char *path, char **bytes, size_t *size)
{
    TRY(file_read(path, IMAGE_MAX_BYTES, bytes, size, NULL));
    if (is_png(*bytes, *size)) return DDPM_OK;
    mem_free(*bytes);
    *bytes = NULL;
    return DDPM_EDATA;
}

bool image_png_bytes_are_whole(const void *bytes, size_t size, int h, int w, int c)
{
    size_t at = SIGNATURE;
    chunk one = {0};
    bool good = is_png(bytes, size) && next_chunk(bytes, size, &at, &one) && is_header(&one, h, w, c);
    while (good && !is_a(&one, "IEND")) good = next_chunk(bytes, size, &at, &one);
    return good && at == size;
}

bool image_png_is_by(const char *path, const char *software)
{
    static const char key[] = "Software"; /* with its final 0 */
    char *bytes;
    size_t size, at = SIGNATURE;
    const size_t n = strlen(software);
    chunk one;
    bool found = false;
    if (read_png(path, &bytes, &size) != DDPM_OK) return false;
    while (!found && next_chunk((const uint8_t *)bytes, size, &at, &one))
        found = is_a(&one, "tEXt") && one.size == sizeof key + n && !memcmp(one.data, key, sizeof key) &&
                !memcmp(one.data + sizeof key, software, n);
    mem_free(bytes);
    return found;
}
