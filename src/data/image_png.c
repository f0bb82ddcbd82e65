/* image_png.c - decoding and encoding PNG with libpng. */
#include "data/image_codec.h"

#include "base/file.h"
#include "base/mem.h"
#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The state of one read or write.  libpng reports errors by longjmp(), so everything that must survive is
 * in this struct rather than in locals of the function that calls setjmp(). */
typedef struct png_job {
    const char *name, *fault; /* beginning of a message: the file, and the kind of error */
    png_structp png;
    png_infop info;
    const uint8_t *bytes; /* reading: borrowed */
    uint8_t *grown;       /* writing: the output, owned until returned */
    int room;             /* writing: capacity of `grown` in bytes */
    size_t size, at;      /* reading: bytes in all; bytes read or written so far */
    image *out;
    const image *in;
    const char *software; /* writing: the Software chunk; NULL: none */
    err *e;
    ddpm_status status;
} png_job;

/* Deflate compresses at most 1032 : 1, and a pixel has at least one bit. */
enum { PIXELS_PER_BYTE = 8 * 1032, CHUNK_BYTES_MAX = 8 << 20, CHUNKS_MAX = 256 };

_Noreturn static void png_failed(png_structp png, png_const_charp text)
{
    png_job *job = png_get_error_ptr(png);
    if (job->status == DDPM_OK) job->status = err_set(job->e, DDPM_EDATA, "%s: %s: %s", job->name, job->fault, text);
    png_longjmp(png, 1);
}

static void png_warned(png_structp png, png_const_charp text) { (void)png, (void)text; }

static void png_take(png_structp png, png_bytep to, size_t size)
{
    png_job *job = png_get_io_ptr(png);
    if (size > job->size - job->at) {
        job->status = err_set(job->e, DDPM_EDATA, "%s: PNG truncated after %zu bytes", job->name, job->size);
        png_longjmp(png, 1);
    }
    memcpy(to, job->bytes + job->at, size);
    job->at += size;
}

/* Skip all chunks that do not affect pixels, such as text and colour profiles, without parsing them. */
static void skip_side_chunks(png_structp png)
{
    static const png_byte skipped[] = "bKGD\0cHRM\0gAMA\0hIST\0iCCP\0iTXt\0oFFs\0pCAL\0pHYs\0sBIT\0sCAL\0sPLT\0"
                                      "sRGB\0sTER\0tEXt\0tIME\0zTXt";
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, skipped, (int)(sizeof skipped / 5));
}

static int png_orientation(png_job *job)
{
    png_bytep exif = NULL;
    png_uint_32 size = 0;
    return png_get_eXIf_1(job->png, job->info, &size, &exif) && exif ? exif_orientation(exif, size) : 1;
}

/* After the signature: length and name of the first chunk, always 13 and IHDR, then width, height, bits per sample and
 * colour type. */
enum { AT_NAME = 12, AT_WIDTH = 16, AT_HEIGHT = 20, AT_COLOUR = 25 };

static bool has_header(const uint8_t *bytes, size_t size)
{
    return size > AT_COLOUR && !memcmp(bytes + AT_NAME, "IHDR", 4);
}

int png_channels(const uint8_t *bytes, size_t size)
{
    if (!has_header(bytes, size)) return 0;
    return bytes[AT_COLOUR] == PNG_COLOR_TYPE_GRAY || bytes[AT_COLOUR] == PNG_COLOR_TYPE_GRAY_ALPHA ? 1 : 3;
}

/* Check the sides before libpng does, whose message would only be "invalid IHDR data". */
static ddpm_status check_sides(const png_job *job)
{
    if (!has_header(job->bytes, job->size)) return DDPM_OK; /* libpng will report the error */
    return image_check(png_get_uint_32(job->bytes + AT_HEIGHT), png_get_uint_32(job->bytes + AT_WIDTH), job->size,
                       PIXELS_PER_BYTE, job->name, job->e);
}

/* All calls that may longjmp(), in one frame whose locals do not change. */
static ddpm_status png_read_job(png_job *job)
{
    TRY(check_sides(job));
    if (setjmp(png_jmpbuf(job->png))) return job->status;
    png_set_read_fn(job->png, job, png_take);
    png_set_user_limits(job->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX); /* check_sides() applies our limits */
    png_set_chunk_malloc_max(job->png, CHUNK_BYTES_MAX);
    png_set_chunk_cache_max(job->png, CHUNKS_MAX);
    skip_side_chunks(job->png);
    png_read_info(job->png, job->info);

    const int h = (int)png_get_image_height(job->png, job->info), w = (int)png_get_image_width(job->png, job->info);
    const int type = png_get_color_type(job->png, job->info);
    if (type == PNG_COLOR_TYPE_PALETTE) png_set_palette_to_rgb(job->png);
    if (type == PNG_COLOR_TYPE_GRAY) png_set_expand_gray_1_2_4_to_8(job->png);
    png_set_strip_16(job->png);
    png_set_strip_alpha(job->png);
    const int passes = png_set_interlace_handling(job->png);
    png_read_update_info(job->png, job->info);

    const int c = png_get_channels(job->png, job->info);
    if ((job->status = image_create(job->out, h, w, c, job->name, job->e)) != DDPM_OK) return job->status;
    for (int pass = 0; pass < passes; pass++)
        for (int y = 0; y < h; y++) png_read_row(job->png, job->out->pixel + (size_t)y * (size_t)w * (size_t)c, NULL);
    png_read_end(job->png, job->info); /* checks the last checksums; eXIf may follow the pixels */
    return exif_apply(png_orientation(job), job->out, job->name, job->e);
}

ddpm_status png_decode(const uint8_t *bytes, size_t size, const char *name, image *out, err *e)
{
    png_job job = {.name = name, .fault = "damaged PNG", .bytes = bytes, .size = size, .out = out, .e = e};
    job.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &job, png_failed, png_warned);
    job.info = job.png ? png_create_info_struct(job.png) : NULL;
    const ddpm_status st =
        job.info ? png_read_job(&job) : err_set(e, DDPM_ENOMEM, "%s: out of memory for the PNG decoder", name);
    png_destroy_read_struct(&job.png, &job.info, NULL);
    if (st != DDPM_OK) image_free(out);
    return st;
}

static void png_give(png_structp png, png_bytep from, size_t size)
{
    png_job *job = png_get_io_ptr(png);
    if (size > (size_t)job->room - job->at) {
        job->status = mem_grow(&job->grown, &job->room, (int)(job->at + size), 1, job->name, job->e);
        if (job->status != DDPM_OK) png_longjmp(png, 1);
    }
    memcpy(job->grown + job->at, from, size);
    job->at += size;
}

static void png_give_nothing(png_structp png) { (void)png; }

static void say_software(const png_job *job)
{
    png_text text = {.compression = PNG_TEXT_COMPRESSION_NONE, .key = "Software", .text = (char *)job->software};
    if (job->software) png_set_text(job->png, job->info, &text, 1);
}

static ddpm_status png_write_job(png_job *job)
{
    if (setjmp(png_jmpbuf(job->png))) return job->status;
    const image *in = job->in;
    png_set_write_fn(job->png, job, png_give, png_give_nothing);
    png_set_user_limits(job->png, IMAGE_MAX_SIDE, IMAGE_MAX_SIDE);
    png_set_IHDR(job->png, job->info, (png_uint_32)in->w, (png_uint_32)in->h, 8,
                 in->c == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_set_compression_level(job->png, 1); /* level 6 takes three times as long to save a seventh */
    png_set_filter(job->png, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB);
    say_software(job);
    png_write_info(job->png, job->info);
    for (int y = 0; y < in->h; y++) png_write_row(job->png, in->pixel + (size_t)y * (size_t)in->w * (size_t)in->c);
    png_write_end(job->png, job->info);
    return DDPM_OK;
}

static ddpm_status encode(const image *img, const char *software, uint8_t **bytes, size_t *size, err *e)
{
    png_job job = {.name = "PNG to be written", .fault = "cannot be encoded", .in = img, .software = software, .e = e};
    *bytes = NULL;
    *size = 0;
    job.png = png_create_write_struct(PNG_LIBPNG_VER_STRING, &job, png_failed, png_warned);
    job.info = job.png ? png_create_info_struct(job.png) : NULL;
    const ddpm_status st =
        job.info ? png_write_job(&job) : err_set(e, DDPM_ENOMEM, "%s: out of memory for the PNG encoder", job.name);
    png_destroy_write_struct(&job.png, &job.info);
    if (st != DDPM_OK) {
        free(job.grown);
        return st;
    }
    *bytes = job.grown;
    *size = job.at;
    return DDPM_OK;
}

ddpm_status image_encode_png(const image *img, uint8_t **bytes, size_t *size, err *e)
{
    return encode(img, NULL, bytes, size, e);
}

ddpm_status image_write_png_by(const char *path, const image *img, const char *software, err *e)
{
    uint8_t *bytes;
    size_t size;
    TRY(encode(img, software, &bytes, &size, e));
    const ddpm_status st = file_replace_lazily(path, bytes, size, e);
    free(bytes);
    return st;
}

ddpm_status image_write_png(const char *path, const image *img, err *e)
{
    return image_write_png_by(path, img, NULL, e);
}
