#include "sample/film.h"
#include "base/mem.h"
#include "data/image.h"

static size_t tile(const film *f) { return (size_t)f->shape[0] * (size_t)f->shape[1] * (size_t)f->shape[2]; }

ddpm_status film_create(film *f, const generator_spec *spec, int channels, int pictures, int moments, err *e)
{
    int columns = moments;
    *f = (film){.pictures = pictures < FILM_PICTURES ? pictures : FILM_PICTURES,
                .moments = moments,
                .shape = {spec->h, spec->w, channels}};
    if (f->pictures > spec->batch) f->pictures = spec->batch;
    const int tiles = 2 * f->pictures * moments;
    if (image_grid_tiles(tiles, f->shape, &columns) < tiles || columns != moments)
        return err_set(e, DDPM_EINVAL, "trajectory=%d: the strip of %d pictures of %d x %d would be too large", moments,
                       f->pictures, spec->w, spec->h);
    return mem_array(&f->tiles, (size_t)tiles, tile(f), "film strip", e);
}

void film_free(film *f)
{
    mem_free(f->tiles);
    *f = (film){0};
}

static ddpm_status frame(void *context, int moment, int n, const float *x, const float *x0, err *e)
{
    film *f = context;
    const size_t d = tile(f);
    for (int i = 0; i < f->pictures && i < n; i++) {
        uint8_t *row = f->tiles + ((size_t)i * 2 * (size_t)f->moments + (size_t)moment) * d;
        generator_to_bytes(x + (size_t)i * d, (int64_t)d, row);
        generator_to_bytes(x0 + (size_t)i * d, (int64_t)d, row + (size_t)f->moments * d);
    }
    (void)e;
    return DDPM_OK;
}

void film_record(film *f, generator *g) { generator_film(g, f->moments, frame, f); }

ddpm_status film_encode(const film *f, uint8_t **png, size_t *size, err *e)
{
    image strip = {0};
    TRY(image_grid(f->tiles, 2 * f->pictures * f->moments, f->shape, f->moments, &strip, e));
    const ddpm_status st = image_encode_png(&strip, png, size, e);
    image_free(&strip);
    return st;
}
