/* film.h - a film strip of the sampling of the first pictures: x_t and the predicted x_0 at several moments. */
#ifndef DDPM_FILM_H
#define DDPM_FILM_H
#include "sample/generator.h"

enum { FILM_PICTURES = 8 };         /* most pictures on a strip */
#define FILM_STRIP "trajectory.png" /* its file, beside sampled pictures */

typedef struct film {
    int pictures, moments, shape[3];
    uint8_t *tiles; /* [pictures, 2, moments, h, w, c]: x_t, then x0_hat */
} film;

/* moments >= 1.  DDPM_EINVAL: the strip would be too large for an image. */
DDPM_MUST_CHECK ddpm_status film_create(film *f, const generator_spec *spec, int channels, int pictures, int moments,
                                        err *e);
void film_free(film *f); /* accepts a zeroed struct */

/* Record the batches that g runs from now on (of each, the first pictures); g's spec is `watched`. */
void film_record(film *f, generator *g);
/* The strip of the last batch, two rows a picture, as a PNG file; free() the bytes. */
DDPM_MUST_CHECK ddpm_status film_encode(const film *f, uint8_t **png, size_t *size, err *e);

#endif
