/* image_jpeg.c - decoding JPEG with libjpeg. */
#include "data/image_codec.h"

#include "base/mem.h"
#include <setjmp.h>
#include <stdbool.h>
#include <stdio.h> /* for jpeglib.h */
#include <string.h>

#include <jpeglib.h>

#include <jerror.h>

enum {
    PIXELS_PER_BYTE = 8 * 64, /* at least one bit of entropy-coded data per block of 8 x 8 pixels */
    SCANS_MAX = 500           /* of a progressive file; about ten are usual */
};

/* The state of one read.  libjpeg reports errors by longjmp(), so everything that must survive is in this struct rather
 * than in locals of the function that calls setjmp(). */
typedef struct jpeg_job {
    struct jpeg_decompress_struct d;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf jump;
    const char *name;
    image *out;
    uint8_t *inks; /* [w, 4] one row of a CMYK picture, owned; else NULL */
    int orientation;
    bool has_rows; /* all rows are decoded: later errors change no pixel */
    err *e;
    ddpm_status status;
} jpeg_job;

_Noreturn static void jpeg_failed(j_common_ptr d)
{
    jpeg_job *job = d->client_data;
    char text[JMSG_LENGTH_MAX];
    d->err->format_message(d, text);
    if (d->err->msg_code == JERR_OUT_OF_MEMORY)
        job->status = err_set(job->e, DDPM_ENOMEM, "%s: out of memory while decoding", job->name);
    else
        job->status = err_set(job->e, DDPM_EDATA, "%s: damaged JPEG: %s", job->name, text);
    longjmp(job->jump, 1);
}

/* Does the decoder's warning mean that it had to invent pixels?  Other warnings are about irregularities that change no
 * pixel: bytes between two markers, irrelevant parameters, unknown versions. */
static bool costs_pixels(const jpeg_job *job)
{
    switch (job->errors.msg_code) {
    case JWRN_HIT_MARKER: /* the scan data ended before the last block */
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE: return true;
    case JWRN_JPEG_EOF: return !job->has_rows;
    default: return false;
    }
}

static void jpeg_remarked(j_common_ptr d, int level)
{
    if (costs_pixels(d->client_data)) jpeg_failed(d);
}

static void jpeg_progressed(j_common_ptr d)
{
    jpeg_job *job = d->client_data;
    if (job->d.input_scan_number <= SCANS_MAX) return;
    job->status = err_set(job->e, DDPM_EDATA, "%s: JPEG with more than %d scans", job->name, SCANS_MAX);
    longjmp(job->jump, 1);
}

static void jpeg_start(jpeg_job *job)
{
    job->d.err = jpeg_std_error(&job->errors);
    job->errors.error_exit = jpeg_failed;
    job->errors.emit_message = jpeg_remarked;
    job->progress.progress_monitor = jpeg_progressed;
    job->d.client_data = job;
}

/* The orientation in the first APP1 "Exif" segment before the pixels; 1 if there is none. */
static int jpeg_orientation(const jpeg_job *job)
{
    for (jpeg_saved_marker_ptr m = job->d.marker_list; m; m = m->next)
        if (m->data_length >= 6 && !memcmp(m->data, "Exif\0\0", 6))
            return exif_orientation(m->data + 6, m->data_length - 6);
    return 1;
}

/* CMYK as Adobe stores it (255 = no ink) to RGB, as Pillow converts it. */
static void inks_to_rgb(const uint8_t *inks, int w, uint8_t *rgb)
{
    for (int x = 0; x < w; x++, inks += 4, rgb += 3)
        for (int k = 0; k < 3; k++) {
            const unsigned light = inks[3], product = (255u - inks[k]) * light + 128;
            const unsigned dark = ((product >> 8) + product) >> 8; /* product / 255, rounded */
            rgb[k] = (uint8_t)(light > dark ? light - dark : 0);
        }
}

static ddpm_status check_header(jpeg_job *job, size_t size)
{
    const struct jpeg_decompress_struct *d = &job->d;
    const int parts = d->num_components;
    TRY(image_check(d->image_height, d->image_width, size, PIXELS_PER_BYTE, job->name, job->e));
    if (parts != 1 && parts != 3 && parts != 4)
        return err_set(job->e, DDPM_EDATA, "%s: JPEG with %d components; 1, 3 and 4 are supported", job->name, parts);
    if (parts == 4) TRY(mem_array(&job->inks, d->image_width, 4, job->name, job->e));
    return image_create(job->out, (int)d->image_height, (int)d->image_width, parts == 1 ? 1 : 3, job->name, job->e);
}

/* All calls that may longjmp(), in one frame whose locals do not change. */
static ddpm_status jpeg_read_job(jpeg_job *job, const uint8_t *bytes, size_t size)
{
    struct jpeg_decompress_struct *const d = &job->d;
    if (setjmp(job->jump)) return job->status;
    jpeg_create_decompress(d);
    d->progress = &job->progress;
    jpeg_save_markers(d, JPEG_APP0 + 1, 0xffff);
    jpeg_mem_src(d, bytes, size);
    (void)jpeg_read_header(d, TRUE);
    if ((job->status = check_header(job, size)) != DDPM_OK) return job->status;
    d->out_color_space = job->inks ? JCS_CMYK : job->out->c == 1 ? JCS_GRAYSCALE : JCS_RGB;
    d->dct_method = JDCT_ISLOW;
    (void)jpeg_start_decompress(d);
    while (d->output_scanline < d->output_height) {
        uint8_t *to = job->out->pixel + (size_t)d->output_scanline * (size_t)job->out->w * (size_t)job->out->c;
        JSAMPROW row = job->inks ? job->inks : to;
        (void)jpeg_read_scanlines(d, &row, 1);
        if (job->inks) inks_to_rgb(row, job->out->w, to);
    }
    job->has_rows = true;
    job->orientation = jpeg_orientation(job);
    (void)jpeg_finish_decompress(d); /* frees the segments */
    return exif_apply(job->orientation, job->out, job->name, job->e);
}

ddpm_status jpeg_decode(const uint8_t *bytes, size_t size, const char *name, image *out, err *e)
{
    jpeg_job job = {.name = name, .out = out, .e = e};
    jpeg_start(&job);
    const ddpm_status st = jpeg_read_job(&job, bytes, size);
    jpeg_destroy_decompress(&job.d);
    mem_free(job.inks);
    if (st != DDPM_OK) image_free(out);
    return st;
}

static int jpeg_read_channels(jpeg_job *job, const uint8_t *bytes, size_t size)
{
    if (setjmp(job->jump)) return 0;
    jpeg_create_decompress(&job->d);
    jpeg_mem_src(&job->d, bytes, size);
    (void)jpeg_read_header(&job->d, TRUE);
    return job->d.num_components == 1 ? 1 : 3;
}

int jpeg_channels(const uint8_t *bytes, size_t size)
{
    jpeg_job job = {.name = ""};
    jpeg_start(&job);
    const int channels = jpeg_read_channels(&job, bytes, size);
    jpeg_destroy_decompress(&job.d);
    return channels;
}
