/* picture_source.h - what pictures are made from, beside noise: class labels, images to start from, a mask.
 *
 * Image k of the source belongs to pictures k, k + images, k + 2 images, ...  They are read when their batch is, so
 * that a folder may be of any size. */
#ifndef DDPM_PICTURE_SOURCE_H
#define DDPM_PICTURE_SOURCE_H
#include "data/file_list.h"
#include "sample/generator.h"
#include "sample/label_list.h"

typedef struct picture_source_spec {
    const char *labels;  /* of label_list_parse() */
    const char *from;    /* an image or a folder of images; "": none */
    const char *mask;    /* an image: white pixels are sampled, black ones stay; "": none */
    const char *between; /* "A,B", two images; "": none */
    int64_t count;       /* pictures on the way from A to B, 2 or more */
} picture_source_spec;

typedef struct picture_source {
    label_list labels;
    file_list files;
    uint8_t *mask; /* [h, w], or NULL */
    float *ends;   /* [2, h, w, c], the x_T of A and B, or NULL */
    int64_t count;
    int h, w, c, batch;
    int *label;    /* [batch] */
    float *images; /* [batch, h, w, c], or NULL */
} picture_source;

/* The labels that a text of label_list_parse() gives to pictures of `m`, wherever they are drawn: by `ddpm sample`, as
 * previews or for `ddpm bench`.  A list may name every row of the embedding; the null class draws a picture without
 * class, which guidance does not change.  "balanced" leaves the null class out if it is the last row, and either the
 * model or the guidance says that it is the null class.
 * DDPM_EINVAL: as label_list_parse(), or guidance by a null class that nothing says. */
DDPM_MUST_CHECK ddpm_status picture_labels(const char *text, const model *m, const generator_guidance *g,
                                           label_list *out, err *e);

/* The images that `from` names. */
DDPM_MUST_CHECK ddpm_status picture_source_count(const char *from, int *n, err *e);

/* Read what the spec names; `to` is the spec of the generator that will sample, whose size the images must have.
 * DDPM_EINVAL: labels; a combination without sense; a mask that hides or keeps everything.  DDPM_EDATA: an image of
 * another size, or a damaged one.  DDPM_ENOINPUT. */
DDPM_MUST_CHECK ddpm_status picture_source_open(picture_source *s, const picture_source_spec *spec, const model *m,
                                                const generator_spec *to, err *e);
/* With `between`: find the x_T of both images by DDIM inversion (Song et al. 2021, section 4.3) with the steps of `to`. */
DDPM_MUST_CHECK ddpm_status picture_source_invert(picture_source *s, model *m, const generator_spec *to, err *e);
/* A hash of the contents of the image files. */
DDPM_MUST_CHECK ddpm_status picture_source_hash(const picture_source *s, uint64_t *hash, err *e);
void picture_source_close(picture_source *s); /* accepts a zeroed struct */

/* The batch for pictures ids[n], 1 <= n <= to.batch; its arrays belong to the source until the next call. */
DDPM_MUST_CHECK ddpm_status picture_source_batch(picture_source *s, const int64_t *ids, int n, generator_batch *out,
                                                 err *e);

#endif
